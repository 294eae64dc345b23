"""API keys: their entries, the Secret that holds them, and the commands."""
