"""Tokenfleet: a Kubernetes operator for fleets of large language models."""
