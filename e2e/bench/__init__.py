"""Measurements against a peer in the same run; none is a test."""
