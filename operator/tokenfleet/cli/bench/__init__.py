"""`tokenfleet bench`: load tests from the command line; what they do is the matter of tokenfleet.bench."""
