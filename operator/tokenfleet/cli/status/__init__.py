"""The fleet at a glance, and one LLMDeployment on a page."""
