"""Talking to a model from a terminal or a pipe."""
