"""The controller: makes the cluster match every LLMDeployment, and says in its status how far it is."""
