"""`tokenfleet tune`: settings that are found by trying; what is tried, and when it is clear, planning.tuning decides."""
