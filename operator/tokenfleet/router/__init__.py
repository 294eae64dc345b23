"""The router: between clients and the engines of an LLMDeployment, at the level of the protocol."""
