"""`tokenfleet plan`: what a model takes, how fast it is and what to buy, before anything is paid for."""
