"""A model's pools: who gets a request, in which shares, and who is woken when there is room."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from msgspec import structs

from tokenfleet.router.balancing.replicas import Replicas, Sighting, State
from tokenfleet.router.callers.keys import Priority
from tokenfleet.router.models import Model, Place, Pool
from tokenfleet.router.rejections import NO_REPLICAS, NONE_READY, QUEUE_FULL, Rejected
from tokenfleet.router.terms import QueueTerms, Terms


def sighting(name: str, state: State = State.ROUTABLE) -> Sighting:
    return Sighting(key=name, name=name, host="10.0.0.1", port=8000, state=state)


def pool(name: str, *replicas: Sighting, weight: int = 1) -> Pool:
    made = Replicas()
    made.observe(replicas or [sighting(f"{name}-0")])
    return Pool(name, made, served_name=name, weight=weight)


def model(*pools: Pool, limit: int = 100, depth: int = 10) -> Model:
    made = Model("chat", clock=lambda: 0.0)
    made.update(Terms(max_in_flight=limit, queue=QueueTerms(max_depth=depth)), pools, created=0)
    for each in pools:
        each.replicas.freed = made.pump
    return made


@dataclass
class Caller:
    """Waits for a place."""

    affinity: int | None = None
    places: list[Place] = field(default_factory=list)
    refused: list[Rejected] = field(default_factory=list)

    def granted(self, place: Place) -> None:
        self.places.append(place)

    def evicted(self, rejected: Rejected) -> None:
        self.refused.append(rejected)


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        pytest.param((90, 10), {"a": 90, "b": 10}, id="a canary gets its tenth, to the request"),
        pytest.param((1, 1), {"a": 50, "b": 50}, id="equals share in equal parts"),
        pytest.param((1, 0), {"a": 100}, id="weight 0 gets nothing while the other has room"),
    ],
)
def test_pools_share_by_weight(weights: tuple[int, int], shares: dict[str, int]) -> None:
    split = model(pool("a", weight=weights[0]), pool("b", weight=weights[1]), limit=1000)
    places = [split.place(None, ()) for _ in range(100)]
    assert Counter(place.pool.name for place in places if place) == shares


def test_a_share_is_spread_and_not_given_in_one_go() -> None:
    split = model(pool("a", weight=3), pool("b", weight=1))
    names = [place.pool.name for _ in range(8) if (place := split.place(None, ()))]
    assert "b" in names[:4]
    assert "b" in names[4:]


def test_a_pool_without_room_leaves_its_share_to_the_other() -> None:
    split = model(pool("a", sighting("a-0", State.UNREADY), weight=99), pool("b", weight=1))
    place = split.place(None, ())
    assert place is not None
    assert place.pool.name == "b"


def test_whoever_waits_gets_the_place_that_another_leaves() -> None:
    busy, caller = model(pool("a"), limit=1), Caller()
    place = busy.place(None, ())
    assert place is not None
    assert busy.place(None, ()) is None
    busy.join(caller, priority=Priority.NORMAL, flow="alice")

    place.lease.release()

    assert [granted.lease.replica.name for granted in caller.places] == ["a-0"]
    assert (busy.queue.depth, busy.place(None, ())) == (0, None)


def test_whoever_waits_for_a_model_without_replicas_gets_the_first_that_appears() -> None:
    asleep, caller = model(pool("a", sighting("a-0", State.UNREADY))), Caller()
    assert asleep.place(None, ()) is None
    asleep.join(caller, priority=Priority.NORMAL, flow="alice")

    asleep.pools[0].replicas.observe([sighting("a-0")])

    assert [granted.lease.replica.name for granted in caller.places] == ["a-0"]


def test_more_room_by_a_changed_spec_wakes_those_who_wait() -> None:
    busy, caller = model(pool("a"), limit=1), Caller()
    assert busy.place(None, ()) is not None
    busy.join(caller, priority=Priority.NORMAL, flow="alice")

    busy.update(Terms(max_in_flight=2), busy.pools, created=0)

    assert len(caller.places) == 1


def test_the_engines_own_limit_holds_where_the_routers_spec_has_none() -> None:
    one = pool("a")
    one.max_in_flight = 2
    made = Model("chat", clock=lambda: 0.0)
    made.update(Terms(), [one], created=0)
    assert [made.place(None, ()) is not None for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("pools", "reason"),
    [
        pytest.param([pool("a", sighting("a-0", State.UNREADY))], NONE_READY, id="one that is starting"),
        pytest.param([Pool("a", Replicas(), served_name="a")], NO_REPLICAS, id="none at all"),
    ],
)
def test_without_a_queue_the_refusal_says_what_is_missing(pools: list[Pool], reason: object) -> None:
    with pytest.raises(Rejected) as refused:
        model(*pools, depth=0).join(Caller(), priority=Priority.NORMAL, flow="alice")
    assert refused.value.kind is reason


# --- adapters


def sql(*replicas: Sighting) -> Pool:
    made = Replicas()
    made.observe(replicas)
    return Pool("a", made, served_name="sql", adapter="sql")


def has_sql(name: str, state: State = State.ROUTABLE) -> Sighting:
    return structs.replace(sighting(name, state), adapters=frozenset({"sql"}))


@pytest.mark.parametrize(
    ("replicas", "takes", "reason", "words"),
    [
        pytest.param([sighting("a-0"), has_sql("a-1")], 1, QUEUE_FULL, "have this adapter", id="one has it: its room counts"),
        pytest.param([sighting("a-0")], 0, NONE_READY, "has loaded the adapter sql yet", id="none has it yet"),
        pytest.param(
            [sighting("a-0"), has_sql("a-1", State.UNREADY)], 0, NONE_READY, "the adapter sql", id="one that has it is starting"
        ),
        pytest.param([has_sql("a-0", State.UNREADY)], 0, NONE_READY, "1 of 1 replicas", id="nothing is ready at all"),
        pytest.param([], 0, NO_REPLICAS, "No replica of this model", id="nothing runs"),
    ],
)
def test_an_adapter_has_the_room_of_those_that_have_it(
    replicas: list[Sighting], takes: int, reason: object, words: str
) -> None:
    pool = sql(*replicas)
    adapter = model(pool, limit=1, depth=0)
    assert pool.has_room is (takes > 0)
    assert [adapter.place(None, ()) is not None for _ in range(takes + 1)] == [True] * takes + [False]
    assert not pool.has_room
    with pytest.raises(Rejected) as refused:
        adapter.join(Caller(), priority=Priority.NORMAL, flow="alice")
    assert refused.value.kind is reason
    assert words in refused.value.message


def test_one_that_lacks_the_adapter_is_no_other_to_wait_for() -> None:
    pool = sql(sighting("a-0"), has_sql("a-1"))
    adapter = model(pool)
    tried = tuple(pool.routable)
    assert [replica.name for replica in tried] == ["a-1"]
    assert not adapter.has_other(tried)
