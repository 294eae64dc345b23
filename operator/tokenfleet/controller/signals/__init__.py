"""What the routers tell of the load: one connection to each of their pods, and what all of it comes to per LLMDeployment."""
