"""Logs of all pods of an LLMDeployment."""
