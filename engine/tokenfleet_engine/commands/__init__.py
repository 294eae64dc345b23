"""The commands of `tokenfleet-engine`, one module each: `register` adds its flags, `run` does it and returns the exit code."""
