"""`tokenfleet cost`: what engines cost, who uses them, and when an API would be cheaper."""
