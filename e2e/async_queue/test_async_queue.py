"""Routers, the engine and Redis are killed while asynchronous requests run: each that was accepted ends once, whole."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from e2e import access, streams
from e2e.cluster import images_redis
from e2e.deployed import Deployed
from e2e.kills import kill
from e2e.kubectl import Json, Kubectl, wait_for

HERE = Path(__file__).parent
TOKENS = 200
ENDED = ("succeeded", "failed", "cancelled", "dead")


@pytest.fixture
def redis(kubectl: Kubectl) -> Iterator[None]:
    """A running one."""
    image = images_redis.ensure()
    documents = list(yaml.safe_load_all((HERE / "redis.yaml").read_text()))
    for document in documents:
        if document["kind"] == "Pod":
            document["spec"]["containers"][0]["image"] = image
        kubectl.apply(document)
    wait_for("Redis", lambda: _ready(kubectl.get("pod", "async-redis")), timeout=120)
    yield
    for document in documents:
        kubectl.delete(document["kind"], document["metadata"]["name"])


def _ready(pod: Json | None) -> bool:
    conditions = ((pod or {}).get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


class Queue:
    """The asynchronous requests of one client, who goes on asking while routers come and go."""

    def __init__(self, url: str) -> None:
        self.http = httpx.AsyncClient(base_url=url, timeout=10, trust_env=False)
        self.ids: list[str] = []

    async def submit(self, number: int) -> None:
        """Until it is accepted; under one idempotency key, so that asking again cannot make two of it."""
        body = {"model": "async", "prompt": f"Story {number}:", "max_tokens": TOKENS, "ignore_eos": True}
        answer = await self._ask(
            "POST", "/v1/async/completions", 202, json=body, headers={"Idempotency-Key": f"story-{number}"}
        )
        self.ids.append(answer["id"])

    async def state(self, id_: str) -> Json:
        return await self._ask("GET", f"/v1/async/requests/{id_}", 200)

    async def states(self) -> list[str]:
        return [(await self.state(id_))["status"] for id_ in self.ids]

    async def wait(self, so: Callable[[list[str]], bool], *, seconds: float = 300) -> None:
        """Until the states of all are so."""
        states: list[str] = []
        try:
            async with asyncio.timeout(seconds):
                while not so(states := await self.states()):
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"after {seconds:g} s: {states}") from None

    async def _ask(self, method: str, path: str, status: int, **options: object) -> Json:
        seen = ""
        async with asyncio.timeout(120):
            while True:
                try:
                    answer = await self.http.request(method, path, **options)  # type: ignore[arg-type]
                    if answer.status_code == status:
                        return dict(answer.json())
                    seen = answer.text
                    assert answer.status_code == 503, seen
                except httpx.TransportError:
                    pass  # A router that has just been killed; the next one answers.
                await asyncio.sleep(0.2)


async def test_kills_of_routers_the_engine_and_redis_lose_nothing_and_answer_nothing_twice(
    kubectl: Kubectl, redis: None, deploy: Callable[[Path, str], Deployed]
) -> None:
    deployed = deploy(HERE / "manifest.yaml", "async")
    await streams.in_thread(deployed.wait_ready, 1)
    routers = f"{deployed.selector},tokenfleet.dev/role=router"

    with access.base_url(kubectl, "async") as url:
        queue = Queue(url)
        for number in range(12):
            await queue.submit(number)
        assert len(set(queue.ids)) == 12
        await queue.wait(lambda states: "running" in states)

        for router in kubectl.items("pods", routers):  # Both: whoever holds the claims is among them.
            await streams.in_thread(kill, kubectl, router)
        await queue.submit(0)
        assert queue.ids.pop() == queue.ids[0], "the same key is the same request, also for another router"

        await queue.wait(lambda states: "running" in states or all(state in ENDED for state in states))
        await streams.in_thread(kill, kubectl, deployed.engines()[0])
        for number in range(12, 16):
            await queue.submit(number)

        redis_pod = kubectl.get("pod", "async-redis")
        assert redis_pod is not None
        await streams.in_thread(kill, kubectl, redis_pod)
        for number in range(16, 20):
            await queue.submit(number)

        await queue.wait(lambda states: all(state in ENDED for state in states), seconds=600)
        ended = [await queue.state(id_) for id_ in queue.ids]
        assert [one["status"] for one in ended] == ["succeeded"] * 20, [one["error"] for one in ended]
        for one in ended:
            assert one["response"]["body"]["usage"]["completion_tokens"] == TOKENS
        assert max(one["tries"] for one in ended) > 1, "something was killed in the middle"
        await asyncio.sleep(6)  # Longer than a claim lives.
        assert [await queue.state(id_) for id_ in queue.ids] == ended, "what has ended stays as it is"
        await queue.http.aclose()
    letters = _redis_cli(kubectl, "XLEN", "tokenfleet:{tokenfleet-e2e/llmdeployments/async}:async:dead")
    assert letters == "0"


def _redis_cli(kubectl: Kubectl, *words: str) -> str:
    found = re.findall(r"\d+", kubectl("exec", "async-redis", "--", "redis-cli", *words))
    return found[-1] if found else ""
