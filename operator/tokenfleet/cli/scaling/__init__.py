"""Autoscaling on paper: traces are recorded, and replayed under a policy."""
