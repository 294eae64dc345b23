"""What stands around a running engine's HTTP server: admission, readiness, the fleet's metrics, goodbye and sleep."""
