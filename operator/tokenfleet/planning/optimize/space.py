"""Every way of running a model on one class that is worth a look: the space of the search. Pure.

accelerator × tensor × pipeline × precision × KV cache type × batch; replicas follow from the capacity of one. What vLLM cannot
do (limits.py) is not in it, nor what is never better: two groups of layers where the layers themselves can be split as far.
"""

from collections.abc import Iterator

from tokenfleet.planning.accelerators import Accelerator
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.optimize import limits
from tokenfleet.planning.optimize.ask import Ask
from tokenfleet.planning.serving import Serving


def servings(model: ModelFacts, accelerator: Accelerator, ask: Ask) -> Iterator[Serving]:
    """The fewest devices first, and of as many the least that is lost: as the files are before fp8."""
    dtype = limits.dtype(model, accelerator)
    if dtype is None:
        return
    weights = [None if each == "files" else each for each in ("files", "fp8") if each in _precisions(model, accelerator, ask)]
    caches = [each for each in ("auto", "fp8") if each in _kv_precisions(model, accelerator, ask)]
    for tensor, pipeline in limits.splits(model, accelerator):
        for quantization in weights:
            for kv_dtype in caches:
                for batch in sorted(ask.batches):
                    yield Serving(
                        accelerator=accelerator,
                        tensor=tensor,
                        pipeline=pipeline,
                        dtype=dtype,
                        quantization=quantization,
                        kv_dtype=kv_dtype,
                        max_model_len=ask.model_len,
                        max_num_seqs=batch,
                    )


def _precisions(model: ModelFacts, accelerator: Accelerator, ask: Ask) -> set[str]:
    able = {"files", "fp8"} if limits.makes_fp8(model, accelerator) else {"files"}
    return able & set(ask.precisions)


def _kv_precisions(model: ModelFacts, accelerator: Accelerator, ask: Ask) -> set[str]:
    able = {"auto", "fp8"} if limits.keeps_fp8(model, accelerator) else {"auto"}
    return able & set(ask.kv_precisions)
