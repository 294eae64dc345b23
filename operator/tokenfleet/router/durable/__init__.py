"""The durable queue on Redis Streams: requests that outlive routers and engines."""
