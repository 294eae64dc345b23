"""Changes of engines: rollouts, restarts, suspension, and how one is watched."""
