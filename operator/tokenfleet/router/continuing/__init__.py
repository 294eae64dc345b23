"""Streams that outlive their replica: what was passed to the client so far, and how another replica goes on from there."""
