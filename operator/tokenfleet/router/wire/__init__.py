"""Bytes: HTTP/1.1 on both sides, TLS, deadlines, back-pressure, limits of size and time."""
