"""What routers tell, as the controller keeps it: decoded, counted over a window, and put together per LLMDeployment."""

import json
from typing import Any

import pytest

from tokenfleet import contract
from tokenfleet.controller.autoscaling import crew
from tokenfleet.controller.observed import Load
from tokenfleet.controller.signals.board import MIXED, Board, Source
from tokenfleet.controller.signals.report import InvalidReport, Report, decode
from tokenfleet.controller.signals.windows import WINDOW_SECONDS, percentile
from tokenfleet.controller.store import Key

KEY: Key = (contract.KIND, "models", "llama")
SHARED: Key = (contract.ROUTER_KIND, "models", "shared")
Json = dict[str, Any]


def buckets(bounds: tuple[float, ...], **counts: int) -> Json:
    """A histogram; `b3=2`: two in the bucket of that index."""
    found = [0] * (len(bounds) + 1)
    for name, count in counts.items():
        found[int(name[1:])] = count
    return {"sum": 0.0, "counts": found}


def track(requests: int = 0, failed: int = 0, **ttft: int) -> Json:
    return {
        "requests": requests,
        "failed": failed,
        "ttft": buckets(contract.REPORT_TTFT_BOUNDS, **ttft),
        "itl": buckets(contract.REPORT_ITL_BOUNDS),
    }


def used(requests: int, prompt: int, completion: int) -> Json:
    """A track, with what its answers used."""
    return {**track(requests), "promptTokens": prompt, "completionTokens": completion}


def levels(**differences: Any) -> Json:
    """An idle LLMDeployment of one replica, but for what is given."""
    idle = {"waiting": 0, "pending": 0, "running": 0, "ended": 0, "tracks": {}, "idleSeconds": None}
    return {**idle, "replicas": {"engine-0": {"inFlight": 0, "state": "routable"}}, **differences}


def line(leaving: bool = False, **deployments: Json) -> bytes:
    return json.dumps({"leaving": leaving, "deployments": deployments or {"llama": levels()}}).encode()


def report(leaving: bool = False, **differences: Any) -> Report:
    return decode(line(leaving, llama=levels(**differences)))


def replicas(**pods: tuple[int, str]) -> Json:
    return {name: {"inFlight": count, "state": state} for name, (count, state) in pods.items()}


class Desk:
    """A board with a clock of its own."""

    def __init__(self, *, slots: int | None = None) -> None:
        self.now = 1000.0
        self.changes: list[Key] = []
        self.board = Board(
            clock=lambda: self.now,
            routers_of=lambda key: (key, SHARED),
            slots_of=lambda _: slots,
            changed=self.changes.append,
        )

    def router(self, uid: str, *, owner: Key = KEY, ready: bool = True, **differences: Any) -> Source:
        """A router that has just told how things are."""
        source = self.board.add(uid, owner, ready=ready)
        if differences.pop("talks", True):
            self.board.told(source, report(**differences))
        return source

    @property
    def load(self) -> Load:
        found = self.board.load(KEY)
        assert found is not None
        return found


# --- a line


def test_a_line_says_how_things_are() -> None:
    told = decode(line(llama=levels(waiting=3, pending=2, running=1, idleSeconds=1.5, tracks={"stable": track(9, 1, b0=4)})))
    found = told.deployments["llama"]
    assert (found.waiting, found.pending, found.running, found.idle_seconds) == (3, 2, 1, 1.5)
    assert (found.replicas["engine-0"].in_flight, found.replicas["engine-0"].state) == (0, "routable")
    assert (found.tracks["stable"].requests, found.tracks["stable"].failed, found.tracks["stable"].ttft[0]) == (9, 1, 4)


def test_what_a_newer_router_adds_is_ignored() -> None:
    told = json.loads(line(llama={**levels(), "color": "red"}))
    assert decode(json.dumps({**told, "more": 1}).encode()).deployments["llama"].waiting == 0


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"leaving": false}', id="no deployments"),
        pytest.param(line(llama={**levels(), "waiting": "many"}), id="a word where a number is due"),
        pytest.param(line(llama=levels(tracks={"stable": {**track(), "ttft": {"counts": [1]}}})), id="other buckets"),
    ],
)
def test_what_is_no_report_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidReport):
        decode(raw)


# --- a percentile


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param([0, 0, 0], None, id="nothing was counted"),
        pytest.param([100, 0, 0], 0.95, id="in a straight line through the first bucket"),
        pytest.param([90, 10, 0], 1.5, id="and through the next"),
        pytest.param([0, 0, 7], 2.0, id="never above the last bound"),
    ],
)
def test_the_95th_percentile_of_buckets(counts: list[int], expected: float | None) -> None:
    found = percentile((1.0, 2.0), [counts])
    assert found == (pytest.approx(expected) if expected is not None else None)


# --- several routers


def test_routers_add_up() -> None:
    desk = Desk()
    desk.router("a", waiting=2, replicas=replicas(one=(3, "routable"), two=(0, "routable")))
    desk.router("b", owner=SHARED, waiting=1, replicas=replicas(one=(1, "routable"), two=(4, "routable")))
    assert desk.load.complete
    assert (desk.load.waiting, desk.load.in_flight) == (3, {"one": 4, "two": 4})


def test_the_durable_queue_is_the_same_for_all_and_counts_once() -> None:
    desk = Desk()
    desk.router("a", waiting=1, pending=7, running=2)
    desk.router("b", pending=6, running=1)
    assert desk.load.waiting == 1 + 7 - 3


def test_what_engines_hold_above_what_they_work_on_waits() -> None:
    desk = Desk(slots=4)
    desk.router("a", waiting=1, replicas=replicas(one=(3, "routable"), two=(3, "routable")))
    desk.router("b", replicas=replicas(one=(3, "routable"), two=(0, "routable")))
    assert desk.load.waiting == 1 + 2
    pods = [crew.Engine(name=name, up=True, placed=True, going=False, canary=False) for name in ("one", "two")]
    seen = crew.signal(desk.load, pods)
    assert (seen.waiting, seen.in_flight) == (1 + 2, 9 - 2), "no request counts twice"


@pytest.mark.parametrize(
    ("said", "state"),
    [
        pytest.param(["routable", "routable"], "routable", id="all use it"),
        pytest.param(["draining", "draining"], "draining", id="all know that it drains"),
        pytest.param(["routable", "draining"], MIXED, id="one does not know yet"),
        pytest.param(["routable", "ejected"], MIXED, id="one leaves it alone"),
        pytest.param(["routable", None], MIXED, id="one has not seen it yet"),
    ],
)
def test_a_pod_is_what_all_routers_say(said: list[str | None], state: str) -> None:
    desk = Desk()
    for uid, word in enumerate(said):
        desk.router(str(uid), replicas=replicas(one=(0, word)) if word else {})
    assert desk.load.states == {"one": state}


def test_a_router_that_leaves_has_no_say_and_still_its_requests() -> None:
    desk = Desk()
    desk.router("a", replicas=replicas(one=(0, "routable")))
    desk.router("b", leaving=True, ready=False, replicas=replicas(one=(2, "unready")))
    assert (desk.load.complete, desk.load.states, desk.load.in_flight) == (True, {"one": "routable"}, {"one": 2})


# --- missing is not nought


def test_without_any_report_nothing_is_known() -> None:
    desk = Desk()
    assert desk.board.load(KEY) is None
    desk.router("a", talks=False)
    assert desk.board.load(KEY) is None
    assert desk.board.has_routers(KEY)


def test_a_ready_router_that_says_nothing_makes_the_load_incomplete() -> None:
    desk = Desk()
    desk.router("a", waiting=2)
    silent = desk.router("b", talks=False)
    assert (desk.load.complete, desk.load.waiting) == (False, 2)
    desk.board.set_ready(silent, False)
    assert desk.load.complete


def test_a_report_counts_as_long_as_there_are_signs_of_life() -> None:
    desk = Desk()
    source = desk.router("a")
    for _ in range(5):
        desk.now += contract.REPORT_HEARTBEAT_SECONDS
        desk.board.heard(source)
    assert desk.load.complete
    desk.now += contract.REPORT_STALE_SECONDS + 0.1
    assert desk.board.load(KEY) is None
    assert desk.board.counts() == (0, 1)


def test_a_lost_connection_is_forgiven_for_a_moment() -> None:
    desk = Desk()
    source = desk.router("a")
    desk.board.lost(source)
    desk.now += 2.9
    assert desk.load.complete
    desk.now += 0.2
    assert desk.board.load(KEY) is None
    desk.board.told(source, report())
    assert desk.load.complete


def test_a_router_that_is_gone_counts_no_more() -> None:
    desk = Desk()
    desk.router("a", waiting=1)
    desk.router("b", waiting=1)
    desk.board.remove("b", KEY)
    assert (desk.load.complete, desk.load.waiting) == (True, 1)


# --- who is told


def test_only_whom_a_change_concerns_is_told() -> None:
    desk = Desk()
    source = desk.router("a", owner=SHARED)
    desk.changes.clear()
    desk.board.told(source, decode(line(llama=levels(), qwen=levels())))
    assert desk.changes == [(contract.KIND, "models", "qwen")]
    desk.changes.clear()
    desk.board.told(source, decode(line(llama=levels(waiting=1), qwen=levels())))
    assert desk.changes == [KEY]
    desk.changes.clear()
    desk.board.told(source, decode(line(llama=levels(waiting=1))))
    assert desk.changes == [(contract.KIND, "models", "qwen")]
    desk.changes.clear()
    desk.board.faded(source)
    assert desk.changes == [KEY]


# --- time


@pytest.mark.parametrize(
    ("one", "two", "idle"),
    [
        pytest.param(None, None, None, id="no request yet"),
        pytest.param(5.0, None, 15.0, id="the figure grows on by itself"),
        pytest.param(5.0, 2.0, 12.0, id="the latest request of all routers counts"),
    ],
)
def test_idleness(one: float | None, two: float | None, idle: float | None) -> None:
    desk = Desk()
    desk.router("a", idleSeconds=one)
    desk.router("b", idleSeconds=two)
    desk.now += 10
    assert desk.load.idle_seconds == idle


def test_a_long_stream_is_no_idleness_though_nothing_is_told_of_it() -> None:
    desk = Desk()
    desk.router("a", idleSeconds=0.0, replicas=replicas(one=(1, "routable")))
    desk.now += 10
    assert desk.load.idle_seconds == 0.0


def test_the_window_forgets() -> None:
    desk = Desk()
    source = desk.router("a", tracks={"stable": track(10, b0=10)})
    assert desk.load.tracks["stable"].ttft_p95 is None, "counted before anybody followed"
    desk.now += 1
    desk.board.told(source, report(tracks={"stable": track(30, b0=10, b11=20)}))
    found = desk.load.tracks["stable"]
    assert found.requests == 20
    assert found.ttft_p95 == pytest.approx(0.9875)
    desk.now += WINDOW_SECONDS
    desk.board.heard(source)
    desk.board.told(source, report(tracks={"stable": track(31, b0=11, b11=20)}))
    assert desk.load.tracks["stable"].ttft_p95 == pytest.approx(0.0095)
    desk.now += WINDOW_SECONDS + 1
    desk.board.heard(source)
    assert desk.load.tracks["stable"].ttft_p95 is None
    assert desk.load.tracks["stable"].requests == 21


def test_totals_outlive_routers_and_their_restarts() -> None:
    desk = Desk()
    first = desk.router("a", tracks={"canary": track(100, 50)})
    desk.board.told(first, report(tracks={"canary": track(110, 51)}))
    desk.board.told(first, report(tracks={"canary": track(4, 1)}))
    second = desk.router("b")
    desk.board.told(second, report(tracks={"canary": track(6)}))
    desk.board.remove("a", KEY)
    found = desk.load.tracks["canary"]
    assert (found.requests, found.failed) == (10 + 4 + 6, 1 + 1)


def test_tokens_are_counted_as_requests_are() -> None:
    desk = Desk()
    older, first = desk.router("older", tracks={"stable": track(3)}), desk.router("a", tracks={"stable": used(5, 1000, 100)})
    desk.board.told(older, report(tracks={"stable": track(4)}))
    desk.board.told(first, report(tracks={"stable": used(6, 1300, 150)}))
    desk.board.told(first, report(tracks={"stable": used(1, 20, 2)}))
    desk.board.remove("a", KEY)
    found = desk.load.tracks["stable"]
    assert (found.requests, found.prompt_tokens, found.completion_tokens) == (3, 320, 52)
    use = desk.board.use(KEY)
    assert use is not None and (use.complete, use.busy, use.counted) == (True, False, (3, 0, 320, 52))
    desk.board.told(older, report(replicas=replicas(one=(2, "routable"))))
    desk.router("silent", talks=False)
    use = desk.board.use(KEY)
    assert use is not None and (use.complete, use.busy) == (False, True)


def test_what_a_router_counted_still_counts_while_it_is_silent() -> None:
    """Or its old failures would look like new ones once it talks again, or is gone."""
    desk = Desk()
    silent, other = desk.router("a"), desk.router("b")
    desk.board.told(silent, report(tracks={"canary": track(10, 5)}))
    desk.board.told(other, report(tracks={"canary": track(1)}))
    before = desk.load.tracks["canary"]
    desk.now += contract.REPORT_STALE_SECONDS + 0.1
    desk.board.heard(other)
    assert (
        (desk.load.tracks["canary"].requests, desk.load.tracks["canary"].failed) == (before.requests, before.failed) == (11, 5)
    )
