"""A changed spec on its way to all engines: tried by a canary first, where the spec says so."""
