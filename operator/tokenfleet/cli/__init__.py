"""`tokenfleet`: the command line on a user's own machine. It holds no logic that another part needs."""
