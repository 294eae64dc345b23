"""The engine of a Tokenfleet replica: vLLM, with its admission, drain and metrics. Knows nothing of Kubernetes."""
