"""Why an LLMDeployment is not ready: a chain of checks over one snapshot of the cluster, and the first link that is broken."""
