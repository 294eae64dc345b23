"""Who asks, and how much they may: keys, bounds of one request, limits per minute."""
