"""The controller: makes the cluster match every LLMDeployment and LLMRouter, and says in its status how far it is."""
