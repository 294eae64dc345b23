"""The turns that peers take in the benchmark of routers: what is measured of each, how, and for how long.

A peer that cannot carry a load gets the next smaller one, there and in later rounds, and a note that says so. One that dies
takes no further part. What others do on the router's core meanwhile is added up, since a busy machine makes all figures worse.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from e2e.bench import machine, router_peers
from e2e.bench.machine import Core, CoreTime
from e2e.bench.router_figures import Figure, Results, carried_rate, carried_streams
from e2e.bench.router_gauges import leftovers, scrape
from e2e.bench.router_peers import KEY, NAMES, OURS, Peer
from e2e.bench.traffic import Clients, Count, Engines, TrafficError
from e2e.cluster.processes import wait_until
from e2e.cluster.progress import Step, say

STEP_MS: Final = 25
"""From one token to the next, as a model of some size on one GPU has it."""
STREAMS: Final = (128, 32, 8)
RATES: Final = (1000, 250, 50, 10)
OPEN_STREAMS: Final = (2000, 1000, 500, 100)
"""Of each the first is what is wanted."""
OPEN_STEP_MS: Final = 2000
FULL: Final = 0.95
"""Of a core: whoever uses that much and is late is at its limit."""
SETTLE_SECONDS: Final = 10.0
"""Some routers notice only at the next chunk that a stream's client is gone."""
FADE_SECONDS: Final = 45.0
"""Until gauges are what they were: what a router guesses of other routers' load fades slowly once nothing comes any more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run measures, and for how long."""

    peers: tuple[str, ...]
    rounds: int
    unary_seconds: float
    stream_seconds: float
    latency_seconds: float
    aborts: int

    @classmethod
    def whole(cls, *, peers: tuple[str, ...] = NAMES, rounds: int = 5) -> "Plan":
        return cls(peers, rounds, unary_seconds=2.5, stream_seconds=2.5, latency_seconds=4, aborts=100_000)

    @classmethod
    def quick(cls, *, peers: tuple[str, ...] = (OURS, "haproxy"), rounds: int = 2) -> "Plan":
        return cls(peers, rounds, unary_seconds=1, stream_seconds=1, latency_seconds=1.5, aborts=20_000)

    @property
    def complete(self) -> bool:
        """Good enough to be the project's figures."""
        return set(self.peers) == set(NAMES) and self.aborts >= 100_000


@dataclass(slots=True)
class Bench:
    """A run under way."""

    plan: Plan
    engines: Engines
    router_core: Core
    load_core: Core
    peers: dict[str, Peer]
    results: dict[str, Results]
    levels: dict[tuple[str, str], int] = field(default_factory=dict)
    """At which of the loads above a peer has arrived, by its name and the figure."""
    watched_seconds: float = 0.0
    foreign_seconds: float = 0.0
    """Of the router's core, that others took meanwhile."""

    # --- Rounds

    def round(self, current: Step) -> None:
        current.note("without a router")
        direct = {RATES[0]: self._direct(RATES[0])}
        for name in list(self.peers):
            current.note(name)
            self.turn(name, self._unary)
            self.turn(name, self._chunks)
            self.turn(name, lambda peer: self._latency(peer, direct))

    def turn(self, name: str, measure: Callable[[Peer], None]) -> None:
        """Measure a peer that still takes part."""
        if (peer := self.peers.get(name)) is None:
            return
        try:
            measure(peer)
        except TrafficError as error:
            self.drop(peer, f"it ended in the middle: {error}")

    def drop(self, peer: Peer, why: str) -> None:
        """It takes no further part."""
        self.results[peer.name].note(why)
        say(f"  {peer.name} is out: {why}")
        router_peers.stop(self.peers.pop(peer.name))

    def _unary(self, peer: Peer) -> None:
        with self._watched(peer) as clients:
            self.results[peer.name].add_unary(clients.closed(seconds=self.plan.unary_seconds))

    def _chunks(self, peer: Peer) -> None:
        def measure(streams: int) -> Count:
            with self._watched(peer) as clients:
                return clients.streams(streams=streams, step_ms=STEP_MS, seconds=self.plan.stream_seconds, patience=10)

        results = self.results[peer.name]
        found = self._most(peer, STREAMS, "chunks at {} streams", measure, carried_streams, (results.chunk_us,))
        if found:
            results.add_chunks(found[1])

    def _latency(self, peer: Peer, direct: dict[int, Count]) -> None:
        def measure(rate: int) -> Count:
            with self._watched(peer) as clients:
                return clients.open(rate=rate, seconds=self.plan.latency_seconds)

        results = self.results[peer.name]
        figures = (results.added_p50_ms, results.added_p99_ms)
        found = self._most(
            peer,
            RATES,
            "latency at {} requests a second",
            measure,
            carried_rate,
            figures,
            hopeless=lambda rate: rate * (results.unary_us.median or 0.0) >= FULL * 1e6,
        )
        if found:
            rate, count = found
            if rate not in direct:
                direct[rate] = self._direct(rate)
            results.add_latency(count, direct[rate])

    def _most(
        self,
        peer: Peer,
        loads: tuple[int, ...],
        what: str,
        measure: Callable[[int], Count],
        carried: Callable[[Count, int], bool],
        figures: tuple[Figure, ...],
        hopeless: Callable[[int], bool] = lambda _: False,
    ) -> tuple[int, Count] | None:
        """The greatest of the loads that a peer carries, and what was measured then. Later rounds begin there.

        A hopeless load is not tried at all. A peer whose core was not full has a second try, since the machine may have been at
        fault. What it had at a greater load in an earlier round is dropped: figures of different loads are not mixed.
        """
        begin, results = self.levels.get((peer.name, what), 0), self.results[peer.name]
        for level in range(begin, len(loads)):
            load = loads[level]
            if level > begin:
                self.levels[peer.name, what] = level
                results.note(f"{what.format(load)}, as it did not carry {loads[level - 1]}")
                for figure in figures:
                    figure.values.clear()
            if hopeless(load):
                continue
            for _ in range(2):
                count = measure(load)
                if count.errors or carried(count, load):
                    return load, count
                if count.cpu_s >= FULL * count.seconds:
                    break
        results.note(f"no figure for {what.format(loads[-1])}, which it did not carry")
        return None

    def _direct(self, rate: int) -> Count:
        return Clients(self.load_core, self.engines.ports[0], KEY).open(rate=rate, seconds=self.plan.latency_seconds)

    @contextmanager
    def _watched(self, peer: Peer) -> Iterator[Clients]:
        """Clients of a peer, once the engines are through with those before; what others do on its core is added up."""
        wait_until(lambda: not self.engines.in_flight(), seconds=SETTLE_SECONDS)
        pids = peer.pids
        before, cpu = CoreTime.of(self.router_core), _cpu_seconds(peer, pids)
        yield Clients(self.load_core, peer.port, KEY, pids)
        after, own = CoreTime.of(self.router_core), _cpu_seconds(peer, pids) - cpu
        self.watched_seconds += after.at - before.at
        self.foreign_seconds += max(0.0, after.busy + after.stolen - before.busy - before.stolen - own)

    # --- Once

    def memory(self, peer: Peer) -> None:
        results = self.results[peer.name]
        for streams in OPEN_STREAMS:
            with self._watched(peer) as clients:
                count = clients.streams(streams=streams, step_ms=OPEN_STEP_MS, seconds=2.5, patience=20)
            if count.open >= streams and not count.errors:
                results.rss_mb, results.rss_streams = count.rss_mb, streams
                return
            results.took(count, f"{streams} streams at a time")
            results.note(f"of {streams} streams at a time {count.open} were open")

    def aborts(self, peer: Peer, idle: dict[str, float]) -> dict[str, Any]:
        """Clients that go away, and what is left of them."""
        with self._watched(peer) as clients:
            count = clients.aborts(requests=self.plan.aborts)
        self.results[peer.name].took(count, "aborts")
        wait_until(lambda: not leftovers(idle, scrape(peer.admin_port)), seconds=FADE_SECONDS, pause=0.25)
        left = leftovers(idle, scrape(peer.admin_port))
        if in_flight := self.engines.in_flight():
            left["in flight on the engines"] = float(in_flight)
        return {"requests": count.requests, "aborted": count.aborted, "errors": count.errors, "left": left}

    @property
    def foreign_share(self) -> float:
        """Of the router's core, what neither the measured router nor idling took."""
        return self.foreign_seconds / self.watched_seconds if self.watched_seconds else 0.0


def _cpu_seconds(peer: Peer, pids: tuple[int, ...]) -> float:
    if not peer.child.running():
        raise TrafficError(f"exit code {peer.child.process.returncode}")
    try:
        return machine.cpu_seconds(pids)
    except OSError as error:
        raise TrafficError("a process of it is gone") from error
