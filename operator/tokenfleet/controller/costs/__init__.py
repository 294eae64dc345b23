"""What the engines of each LLMDeployment cost, and what they are used for meanwhile: status.cost, and metrics."""
