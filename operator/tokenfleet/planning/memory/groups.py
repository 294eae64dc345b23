"""How vLLM lays the layers' pages out in one pool of blocks, and how many blocks a sequence takes from it.

As vllm/v1/core/kv_cache_utils.py of vLLM 0.32 does it: layers that keep alike form groups of the same number of layers, each
group has a table of blocks of its own, and all tables draw from one pool, whose blocks are as large as the widest group needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tokenfleet.planning.memory.caches import LayerCache

Counted = tuple[LayerCache, int]
"""A kind of layer, and how many layers are of it."""


@dataclass(frozen=True, slots=True)
class Group:
    """Layers with one table of blocks."""

    layers: tuple[Counted, ...]

    @property
    def bytes(self) -> int:
        """Of one block, through all of its layers."""
        return sum(cache.page * count for cache, count in self.layers)

    def blocks(self, length: int) -> int:
        return max(cache.blocks(length) for cache, _ in self.layers)


@dataclass(frozen=True, slots=True)
class Pool:
    """All groups of a model."""

    groups: tuple[Group, ...]

    def block_bytes(self, *, stage: int, layers: int) -> int:
        """Of one block, on a device that holds `stage` of the model's `layers` (_get_kv_cache_bytes_per_block).

        The layers of a group are spread evenly over the pipeline (_project_kv_cache_groups_to_worker).
        """
        if stage == layers:
            return max((group.bytes for group in self.groups), default=0)
        return max((_share(group, stage, layers) for group in self.groups), default=0)

    def blocks(self, length: int) -> int:
        """That one sequence of so many tokens takes (get_max_concurrency_for_kv_cache_config)."""
        return sum(group.blocks(length) for group in self.groups)

    def growth(self) -> float:
        """Blocks that each further token of a long sequence takes."""
        return sum(
            1 / group.layers[0][0].block_size for group in self.groups if group.layers[0][0].keeping in {"full", "latent"}
        )


def _share(group: Group, stage: int, layers: int) -> int:
    return sum(cache.page * -(-count * stage // layers) for cache, count in group.layers)


def pool_of(caches: Sequence[Counted]) -> Pool:
    """get_kv_cache_groups, for caches whose blocks lie one layer after another."""
    if not caches:
        return Pool(())
    if _uniform([cache for cache, _ in caches]):
        return Pool((Group(tuple(caches)),))
    unified = _unified(caches)
    return Pool(tuple(_split(unified)))


def _uniform(caches: Sequence[LayerCache]) -> bool:
    """UniformTypeKVCacheSpecs.is_uniform_type: all see every token, or all the same window."""
    first = caches[0]
    if {cache.block_size for cache in caches} != {first.block_size}:
        return False
    if first.keeping in {"full", "latent"}:
        return all(cache.keeping in {"full", "latent"} for cache in caches)
    if first.keeping == "state":
        return all(cache.keeping == "state" and cache.page == first.page for cache in caches)
    return all(cache.keeping == first.keeping and cache.window == first.window for cache in caches)


def _unified(caches: Sequence[Counted]) -> list[Counted]:
    """unify_kv_cache_spec_page_size: pages of one size, by larger blocks where that comes out even, else by padding."""
    page = max(cache.page for cache, _ in caches)
    unified = []
    for cache, count in caches:
        even = cache.keeping != "state" and page % cache.page == 0
        size = cache.block_size * (page // cache.page) if even else cache.block_size
        unified.append((replace(cache, page=page, block_size=size), count))
    return unified


def _split(caches: Sequence[Counted]) -> list[Group]:
    """_get_kv_cache_groups_uniform_page_size: as many layers in each group as the rarest kind has, or the most common one
    where the two hardly differ; the last group of a kind is filled up."""
    counts = [count for _, count in caches]
    size = max(counts) if max(counts) < min(counts) * 1.5 else min(counts)
    return [Group(((cache, min(size, count)),)) for cache, count in caches for _ in range(-(-count // size))]
