"""Measures an engine: its phases apart in this process, or a running one by its own traces."""
