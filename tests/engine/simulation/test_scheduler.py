"""Continuous batching: what must hold whatever comes, and the rules one by one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenfleet_engine.simulation.scheduler import Limits, Scheduler, Step
from tokenfleet_engine.simulation.sequences import Finish, Sequence
from tokenfleet_engine.simulation.text import Writer

SIZE = 4


def _sequence(prompt_tokens: int, limit: int, *, number: int = 0, shared: int = 0) -> Sequence:
    """The first `shared` blocks are those of everybody."""
    hashes = [block if block < shared else hash((number, block)) for block in range(prompt_tokens // SIZE)]
    return Sequence(prompt_tokens=prompt_tokens, limit=limit, block_size=SIZE, hashes=hashes, writer=Writer(number + 1))


def _scheduler(**limits: int | bool) -> Scheduler:
    given_: dict[str, int | bool] = {"max_num_seqs": 4, "max_num_batched_tokens": 16, "block_size": SIZE, "blocks": 64}
    return Scheduler(Limits(**{**given_, **limits}))  # type: ignore[arg-type]


def _step(scheduler: Scheduler) -> Step:
    """Plans a step, and does it."""
    step = scheduler.schedule()
    for sequence in scheduler.complete(step):
        sequence.advance()
        if sequence.finish is not None:
            scheduler.finish(sequence)
    return step


def _parts(step: Step) -> list[int]:
    return [count for _, count in step.parts]


@st.composite
def _cases(draw: st.DrawFn) -> tuple[Limits, list[Sequence], list[tuple[int, int]]]:
    """Limits, sequences that each fit into the cache alone, and (step, sequence) pairs: when a client leaves."""
    blocks = draw(st.integers(6, 30))
    limits = Limits(
        max_num_seqs=draw(st.integers(1, 6)), max_num_batched_tokens=draw(st.integers(1, 40)), block_size=SIZE, blocks=blocks,
        prefix_caching=draw(st.booleans()),
    )  # fmt: skip
    sequences = []
    for number in range(draw(st.integers(1, 12))):
        prompt = draw(st.integers(1, blocks * SIZE - 1))
        limit = draw(st.integers(1, blocks * SIZE - prompt))
        sequences.append(_sequence(prompt, limit, number=number, shared=draw(st.integers(0, 4))))
    leaving = draw(st.lists(st.tuples(st.integers(0, 30), st.integers(0, len(sequences) - 1)), max_size=4))
    return limits, sequences, leaving


@settings(deadline=None, max_examples=150)
@given(_cases())
def test_every_sequence_ends_and_no_block_is_lost(case: tuple[Limits, list[Sequence], list[tuple[int, int]]]) -> None:
    limits, sequences, leaving = case
    scheduler = Scheduler(limits)
    for sequence in sequences:
        scheduler.add(sequence)
    steps = 0
    while scheduler.busy:
        step = scheduler.schedule()
        assert step.parts, "work is waiting and nothing is done"
        assert sum(_parts(step)) <= limits.max_num_batched_tokens
        assert len(scheduler.running) <= limits.max_num_seqs
        for sequence in (sequences[who] for when, who in leaving if when == steps):
            if sequence.finish is None:
                sequence.finish = Finish.ABORT
                scheduler.finish(sequence)
                assert not sequence.blocks
        for sequence in scheduler.complete(step):
            sequence.advance()
            if sequence.finish is not None:
                scheduler.finish(sequence)
        held = {block for sequence in scheduler.running for block in sequence.blocks}
        assert len(held) + scheduler.pool.free == limits.blocks
        steps += 1
        assert steps < 20_000
    assert scheduler.pool.free == limits.blocks
    assert all(sequence.finish is not None for sequence in sequences)
    assert all(sequence.generated == sequence.limit for sequence in sequences if sequence.finish is Finish.LENGTH)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=10))
def test_first_come_first_served(prompts: list[int]) -> None:
    scheduler = _scheduler(blocks=1000)
    sequences = [_sequence(tokens, 3, number=number) for number, tokens in enumerate(prompts)]
    for sequence in sequences:
        scheduler.add(sequence)
    admitted: list[Sequence] = []
    while scheduler.busy:
        admitted += _step(scheduler).admitted
    assert admitted == sequences


def test_a_long_prompt_is_read_in_chunks_beside_those_that_decode() -> None:
    scheduler = _scheduler()
    scheduler.add(_sequence(4, 9, number=1))
    _step(scheduler)
    scheduler.add(_sequence(40, 9, number=2))
    steps = [_step(scheduler) for _ in range(4)]
    assert [_parts(step) for step in steps] == [[1, 15], [1, 15], [1, 10], [1, 1]]
    assert [(step.work.decodes, step.work.prompt_tokens) for step in steps] == [(1, 15), (1, 15), (1, 10), (2, 0)]


def test_without_chunked_prefill_a_prompt_waits_for_a_whole_budget() -> None:
    scheduler = _scheduler(chunked_prefill=False)
    scheduler.add(_sequence(10, 3, number=1))
    scheduler.add(_sequence(10, 3, number=2))
    assert [_parts(_step(scheduler)) for _ in range(3)] == [[10], [1, 10], [1, 1]]


def test_no_more_run_than_there_are_places() -> None:
    scheduler = _scheduler(max_num_seqs=2, max_num_batched_tokens=100)
    for number in range(3):
        scheduler.add(_sequence(4, 2, number=number))
    assert _parts(_step(scheduler)) == [4, 4]
    assert len(scheduler.waiting) == 1
    _step(scheduler)
    assert _parts(_step(scheduler)) == [4]


def test_sequences_wait_for_blocks_though_there_are_places() -> None:
    scheduler = _scheduler(blocks=4, max_num_batched_tokens=100)
    scheduler.add(_sequence(12, 2, number=1))
    scheduler.add(_sequence(8, 2, number=2))
    assert _parts(_step(scheduler)) == [12]
    assert len(scheduler.waiting) == 1


def test_the_youngest_gives_its_blocks_back_when_they_run_out() -> None:
    scheduler = _scheduler(blocks=4, max_num_batched_tokens=100, prefix_caching=False)
    old, young = _sequence(8, 8, number=1), _sequence(8, 8, number=2)
    scheduler.add(old)
    scheduler.add(young)
    _step(scheduler)
    step = _step(scheduler)
    assert step.preempted == [young]
    assert (young.blocks, young.computed, young.preemptions, young.generated) == ([], 0, 1, 1)
    while scheduler.busy:
        _step(scheduler)
    assert (old.generated, young.generated) == (8, 8)


def test_a_shared_beginning_is_read_once() -> None:
    scheduler = _scheduler(max_num_batched_tokens=100)
    scheduler.add(_sequence(17, 5, number=1, shared=3))
    scheduler.add(_sequence(18, 5, number=2, shared=3))
    assert _parts(_step(scheduler)) == [17, 6]
    assert (scheduler.queried_tokens, scheduler.hit_tokens) == (35, 12)
    assert scheduler.limits.blocks - scheduler.pool.free == 5 + 2


def test_one_token_is_left_to_compute_though_all_are_known() -> None:
    scheduler = _scheduler(max_num_batched_tokens=100)
    for number in range(2):
        scheduler.add(_sequence(12, 5, number=number, shared=3))
    assert _parts(_step(scheduler)) == [12, 4]


def test_what_was_used_last_is_kept_the_longest() -> None:
    scheduler = _scheduler(blocks=8, max_num_batched_tokens=100)
    for number in (1, 2, 1, 3):  # the third finds the first's blocks, and makes the second's the oldest
        scheduler.add(_sequence(14, 1, number=number))
        _step(scheduler)
    before = scheduler.hit_tokens
    scheduler.add(_sequence(14, 1, number=1))
    _step(scheduler)
    assert scheduler.hit_tokens - before == 12


@pytest.mark.parametrize("running", [pytest.param(True, id="while it runs"), pytest.param(False, id="while it waits")])
def test_who_leaves_frees_all_at_once(running: bool) -> None:
    scheduler = _scheduler(blocks=8, max_num_seqs=1)
    first, second = _sequence(8, 9, number=1), _sequence(8, 9, number=2)
    scheduler.add(first)
    scheduler.add(second)
    step = scheduler.schedule()
    leaver = first if running else second
    leaver.finish = Finish.ABORT
    scheduler.finish(leaver)
    assert scheduler.pool.free == (8 if running else 6)
    assert scheduler.complete(step) == ([] if running else [first])
