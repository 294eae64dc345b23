"""Where models and replicas come from: the Kubernetes API, or a static list."""
