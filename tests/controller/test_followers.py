"""Connections to router pods: to real routers of this process, and to servers that behave badly."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.controller.objects import NAME, ROUTER_UID, SHARED, llm_deployment, llm_router, ready_pod
from tests.controller.world import KEY, World
from tests.router.harness import post, router, until
from tokenfleet import contract
from tokenfleet.controller.observed import Json
from tokenfleet.controller.signals.board import Board
from tokenfleet.controller.signals.followers import Followers, address_of
from tokenfleet.controller.store import Key, Store
from tokenfleet.router.balancing.replicas import Sighting, State
from tokenfleet.router.terms import Terms

ENGINE = Sighting("engine-0", "engine-0", "127.0.0.1", 1, State.ROUTABLE)


class Listening:
    """Followers of what the world shows, with router pods on ports of this machine."""

    def __init__(self, **ports: int) -> None:
        """ports: by the pod's name with _ for -."""
        self.ports = {name.replace("_", "-"): port for name, port in ports.items()}
        self.world, self.store = World(), Store()
        self.changes: list[Key] = []
        self.board = Board(
            clock=asyncio.get_running_loop().time,
            routers_of=lambda key: (key, (contract.ROUTER_KIND, key[1], SHARED)),
            slots_of=lambda _: None,
            changed=self.changes.append,
        )
        self.followers = Followers(self.store, self.board, address=self.address)
        self.store.listen(self.followers.heard)

    def address(self, pod: Json) -> str | None:
        if address_of(pod) is None:
            return None
        return f"http://127.0.0.1:{self.ports[pod['metadata']['name']]}{contract.PATH_ROUTER_REPORTS}"

    def see(self) -> None:
        """What a watch would tell."""
        self.world.watch(self.store)

    @property
    def complete(self) -> bool:
        load = self.board.load(KEY)
        return load is not None and load.complete


@asynccontextmanager
async def listening(*pods: Json, owners: tuple[Json, ...] = (), **ports: int) -> AsyncIterator[Listening]:
    one = Listening(**ports)
    for body in owners or (llm_deployment(name=NAME),):
        one.world.add(body)
    for pod in pods:
        one.world.add(pod)
    one.see()
    one.followers.start()
    try:
        yield one
    finally:
        await one.followers.stop()


@asynccontextmanager
async def serving(reports: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """A server that does as a script says; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await reports(writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def pod(name: str = "router-0", **fields: object) -> Json:
    return ready_pod(name, role=contract.ROLE_ROUTER, **fields)


async def test_a_request_that_waits_for_a_sleeping_model_is_known_at_once() -> None:
    async with router(terms=Terms()) as front, listening(pod(), router_0=front.admin) as one, await front.connect() as client:
        await until(lambda: one.complete)
        assert front.now == 0.0
        client.write(post({"model": NAME, "messages": []}))
        await until(lambda: (load := one.board.load(KEY)) is not None and load.waiting == 1)
        assert front.now == 0.0, "without a second's wait"
        load = one.board.load(KEY)
        assert load is not None and load.idle_seconds == 0.0


async def test_what_a_replica_has_is_known_within_a_second() -> None:
    async with router(ENGINE) as front, listening(pod(), router_0=front.admin) as one:
        await until(lambda: one.complete)
        load = one.board.load(KEY)
        assert load is not None and (load.in_flight, load.states) == ({"engine-0": 0}, {"engine-0": "routable"})
        with front.replicas.lease():  # type: ignore[union-attr]
            front.advance(1.25)
            await until(lambda: (load := one.board.load(KEY)) is not None and load.in_flight == {"engine-0": 1})


async def test_routers_come_and_go() -> None:
    async with router(ENGINE) as a, router(ENGINE) as b:
        async with listening(pod(), router_0=a.admin, router_1=b.admin) as one:
            await until(lambda: one.complete)
            one.world.add(pod("router-1"))
            one.see()
            await until(lambda: b.followed and one.complete)
            assert one.board.counts() == (2, 0)
            one.store.remove(one.world.remove("Pod", "router-0"))
            await until(lambda: not a.followed)
            assert one.board.counts() == (1, 0)
        await until(lambda: not b.followed)


async def test_the_routers_of_an_llmrouter_tell_of_its_llmdeployments() -> None:
    labels = {contract.LABEL_ROUTER: SHARED, contract.LABEL_ROLE: contract.ROLE_ROUTER}
    shared = pod("shared-0")
    shared["metadata"]["labels"] = labels
    owners = (llm_deployment(routerRef={"name": SHARED}), {**llm_router(), "metadata": {"name": SHARED, "uid": ROUTER_UID}})
    async with router(ENGINE) as front, listening(shared, owners=owners, shared_0=front.admin) as one:
        await until(lambda: one.complete)


async def test_a_pod_without_an_address_is_not_followed_until_it_has_one() -> None:
    async with router(ENGINE) as front, listening(pod(ip=""), router_0=front.admin) as one:
        assert one.board.counts() == (0, 0)
        one.world.add(pod())
        one.see()
        await until(lambda: one.complete)


async def test_one_that_is_deleted_is_followed_to_its_end_and_has_no_say() -> None:
    async with router(ENGINE) as front, listening(pod(going=True), router_0=front.admin) as one:
        await until(lambda: front.followed and one.board.load(KEY) is not None)
        assert not one.complete


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", id="an older router does not know the path"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nnonsense\n", id="what it tells is nonsense"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000_000, id="it never ends a line"),
        pytest.param(b"", id="it hangs up"),
    ],
)
async def test_one_that_does_not_speak_as_it_should_is_tried_again_and_never_known(answer: bytes) -> None:
    visits = 0
    again = asyncio.Event()

    async def reports(writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        if visits == 2:
            again.set()
        writer.write(answer)
        await writer.drain()

    async with serving(reports) as port, listening(pod(), router_0=port) as one:
        async with asyncio.timeout(10):
            await again.wait()
        assert one.board.load(KEY) is None
        assert one.board.has_routers(KEY)


def test_an_address_of_either_family() -> None:
    assert address_of(pod(ip="10.1.2.3")) == "http://10.1.2.3:9090/tokenfleet/reports"
    assert address_of(pod(ip="fd00::1")) == "http://[fd00::1]:9090/tokenfleet/reports"
    assert address_of(pod(ip="10.1.2.3", phase="Pending")) is None
