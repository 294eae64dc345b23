"""Which points are measured, and the sentences about those that are not."""

import dataclasses

import pytest

from tests.engine.profiling.engines import CACHE, LIMITS
from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.profiling.plan import DecodePoint, KVCache, Limits, Plan, make_plan

Numbers = tuple[int, ...] | None


def plan_of(*, limits: Limits = LIMITS, prompts: Numbers = None, batches: Numbers = None, contexts: Numbers = None) -> Plan:
    return make_plan(limits, prompts=prompts, batches=batches, contexts=contexts, repeat=3, decode_steps=10)


def test_defaults_end_where_the_engine_does() -> None:
    plan = plan_of()
    assert plan.prompts == (128, 256, 512, 998)
    assert {point.context_tokens for point in plan.decode} == {128, 512}
    assert {point.sequences for point in plan.decode} == {1, 2, 4, 8}


def test_an_engine_with_short_sequences_is_measured_at_its_longest() -> None:
    assert plan_of(limits=dataclasses.replace(LIMITS, sequence_tokens=100)).prompts == (98,)


def test_points_come_with_the_cheapest_first() -> None:
    plan = plan_of(batches=(4, 1), contexts=(128, 64))
    assert plan.decode == (DecodePoint(1, 64), DecodePoint(1, 128), DecodePoint(4, 64), DecodePoint(4, 128))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(
            ((128, 4096), None, None),
            "--prompt-tokens 4096 is more than this engine takes: at most 998 (--max-model-len 1000). Lower it, or raise that.",
            id="a prompt beyond the longest sequence",
        ),
        pytest.param(
            (None, (16,), None),
            "--batch 16 is more than this engine takes: at most 8 (--max-num-seqs 8). Lower it, or raise that.",
            id="a batch beyond the scheduler's",
        ),
        pytest.param(
            (None, None, (990,)),
            "--context 990 is more than this engine takes: at most 985 (--max-model-len 1000 less 15 for the steps that are "
            "measured). Lower it, or raise that.",
            id="a context that leaves no room for the steps",
        ),
    ],
)
def test_what_the_engine_can_never_take_is_refused(given: tuple[Numbers, Numbers, Numbers], message: str) -> None:
    prompts, batches, contexts = given
    with pytest.raises(EngineFailure) as caught:
        plan_of(prompts=prompts, batches=batches, contexts=contexts)
    assert (caught.value.reason, caught.value.message) == (contract.REASON_ENGINE_CONFIG_INVALID, message)


@pytest.mark.parametrize(
    ("limits", "point", "reason"),
    [
        pytest.param(
            dataclasses.replace(LIMITS, step_tokens=4096), (8, 512),
            "needs 272 blocks of KV cache, and the engine has 100", id="a batch without room in the KV cache",
        ),
        pytest.param(
            dataclasses.replace(LIMITS, step_tokens=40, cache=dataclasses.replace(CACHE, blocks=10_000)), (8, 900),
            "its first sequences would be 1140 tokens long once the last is in (--max-model-len 1000)",
            id="a batch that fills up so slowly that its first sequences end",
        ),
    ],
)  # fmt: skip
def test_a_batch_that_cannot_be_whole_is_left_out_and_named(limits: Limits, point: tuple[int, int], reason: str) -> None:
    plan = plan_of(limits=limits, batches=point[:1], contexts=point[1:])
    assert plan.decode == ()
    assert [(skipped.point, skipped.reason) for skipped in plan.skipped] == [
        (f"decode of {point[0]} × {point[1]} tokens", reason)
    ]


def test_a_cache_of_several_groups_counts_each() -> None:
    cache = KVCache(blocks=10, block_bytes=1600, group_tokens=(16, 32))
    assert cache.bytes_per_token == 150
    assert cache.blocks_for(33) == 3 + 2
