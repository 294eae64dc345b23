"""What to run, and what it takes: pure functions over the spec and data that ships with the package."""
