"""A real Kubernetes on this machine, without Docker: `python -m e2e.cluster --help`."""
