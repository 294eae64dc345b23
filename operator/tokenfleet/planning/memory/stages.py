"""Which part of a model a device holds: its stage of the pipeline.

Layers are split as vllm/distributed/utils.py:get_pp_indices of vLLM 0.32 splits them: evenly, and what is left over goes to the
stages before the last one, which has the head.
"""

from dataclasses import dataclass

from tokenfleet.planning.model import ModelFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    layers: int
    """That it holds."""
    first: bool
    """With the embedding, and whatever else reads the input."""
    last: bool
    """With the head, which makes the logits."""


def stages_of(model: ModelFacts, pipeline: int) -> tuple[Stage, ...]:
    """In their order; no two that are alike."""
    each, left = divmod(model.layers, pipeline)
    counts = [each] * pipeline
    for index in range(2, left + 2):
        counts[-index] += 1
    found = (Stage(layers=count, first=index == 0, last=index == pipeline - 1) for index, count in enumerate(counts) if count)
    return tuple(dict.fromkeys(found))
