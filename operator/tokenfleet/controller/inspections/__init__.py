"""Whether a model fits, before any engine is made: what its files say, read by a small pod, and what that comes to."""
