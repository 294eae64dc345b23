"""The controller's own autoscaling: the policy of planning/scaling, fed with what routers and pods tell, and its decisions."""
