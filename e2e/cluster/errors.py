"""What stops the cluster's commands: one sentence that says what is wrong and how to put it right."""


class ClusterError(Exception):
    """The user can act on it; the command line prints it without a traceback."""
