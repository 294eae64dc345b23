"""Why the engines, or the routers, are not as the spec says."""
