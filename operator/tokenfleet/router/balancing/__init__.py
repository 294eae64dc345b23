"""Which replica: policies, load, slow start, ejection."""
