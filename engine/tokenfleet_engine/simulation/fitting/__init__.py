"""From a running engine to a timing model: what to ask, how to measure, the fit, and how far it is off."""
