"""The way to a cluster, and what the commands read and change there."""
