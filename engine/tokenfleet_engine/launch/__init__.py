"""Until vLLM runs, and what its end means: checks of files and flags, the command line, the child and its last words."""
