"""Prompts that somebody recorded: conversations as ShareGPT has them, prompts one a line, and traces of arrivals.

`records` reads what is in a file without holding it, `conversations`, `written` and `traces` make prompts of it, and
`open_dataset` finds out which of them it is. What cannot be read is told with the file and the line.
"""

from tokenfleet.bench.datasets.opening import Dataset, open_dataset
from tokenfleet.bench.datasets.records import BadDataset

__all__ = ["BadDataset", "Dataset", "open_dataset"]
