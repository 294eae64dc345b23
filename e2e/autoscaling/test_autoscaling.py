"""Replicas by demand: more while requests wait, fewer when they fit on fewer, none without any, and back with the first."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx

from e2e import access, streams
from e2e.deployed import Deployed
from e2e.kubectl import Json, Kubectl, wait_for

MANIFEST = Path(__file__).with_name("manifest.yaml")


def _status(kubectl: Kubectl, name: str) -> Json:
    return dict((kubectl.get("llmd", name) or {}).get("status") or {})


def _reasons(kubectl: Kubectl, name: str) -> list[str]:
    """Of the decisions that the status keeps, the oldest first."""
    return [each["reason"] for each in reversed(_status(kubectl, name)["scaling"]["history"])]


def _events(kubectl: Kubectl, name: str) -> set[str]:
    return {
        event["reason"]
        for event in kubectl.items("events")
        if event["involvedObject"]["name"] == name and event["involvedObject"]["kind"] == "LLMDeployment"
    }


async def test_it_grows_with_the_queue_shrinks_with_the_load_sleeps_and_wakes(
    kubectl: Kubectl, deploy: Callable[[Path, str], Deployed]
) -> None:
    sleepy, elastic = deploy(MANIFEST, "sleepy"), Deployed(kubectl, "elastic")
    try:
        elastic.wait_ready(1)
        await _grows_and_shrinks(kubectl, elastic)
    finally:
        await streams.in_thread(elastic.delete)
    await _sleeps_and_wakes(kubectl, sleepy)


async def _grows_and_shrinks(kubectl: Kubectl, elastic: Deployed) -> None:
    with access.base_url(kubectl, elastic.name) as url:
        load = await streams.learn(streams.Load(url=url, model=elastic.name, streams=14, tokens=100))
        async with streams.running(load) as tally:
            began = time.monotonic()
            await streams.until(lambda: _status(kubectl, elastic.name)["scaling"]["desired"] == 3, timeout=20)
            print(f"three replicas wanted {time.monotonic() - began:.1f} s after the load began")
            await streams.in_thread(elastic.wait_ready, 3)
            await streams.until(lambda: tally.whole >= 30)
        async with streams.running(streams.Load(url=url, model=elastic.name, streams=2, tokens=100)) as light:
            await streams.until(lambda: _status(kubectl, elastic.name)["scaling"]["desired"] == 1, timeout=90)
            await streams.in_thread(elastic.wait_ready, 1)
    assert tally.outcomes == {"whole": tally.whole}, tally.problems
    assert light.outcomes == {"whole": light.whole}, light.problems
    newest, *_, first = _status(kubectl, elastic.name)["scaling"]["history"]
    assert (first["reason"], newest["reason"]) == ("QueueDepth", "LoadFell")
    assert "wait" in first["message"], first


async def _sleeps_and_wakes(kubectl: Kubectl, sleepy: Deployed) -> None:
    sleepy.wait_reason("EngineReady", "ScaledToZero", timeout=240)
    await streams.in_thread(wait_for_no_engine, sleepy)
    with access.base_url(kubectl, sleepy.name) as url:
        async with httpx.AsyncClient(base_url=url, timeout=200, trust_env=False) as client:
            listed = (await client.get("/v1/models")).json()["data"]
            assert [entry["id"] for entry in listed] == [sleepy.name], "a sleeping model is still listed"
            body = {"model": sleepy.name, "prompt": "Good morning", "max_tokens": 20, "stream": True, "ignore_eos": True}
            async with client.stream("POST", "/v1/completions", json=body) as answer:
                assert answer.status_code == 200, await answer.aread()
                assert "data: [DONE]" in [line async for line in answer.aiter_lines()]
    sleepy.wait_ready(1)
    assert _reasons(kubectl, sleepy.name)[-2:] == ["Idle", "WakeUp"]
    wait_for("the Events", lambda: {"Waking", "Awake"} <= _events(kubectl, sleepy.name), timeout=10)


def wait_for_no_engine(deployed: Deployed) -> None:
    wait_for("no engine", lambda: not deployed.engines(), timeout=60)
