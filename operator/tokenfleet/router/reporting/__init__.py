"""What the router tells of itself: metrics, logs, traces, pages for probes and people."""
