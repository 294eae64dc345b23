"""An engine without a model: vLLM's HTTP surface over a simulated scheduler, for drills and for large fleets."""
