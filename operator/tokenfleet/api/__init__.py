"""The API: what a user may write, what the controller answers, and the CRD that says so to the API server."""
