"""Prompts read on one pod and answered by another: what one engine would have said, and no request lost with a prefill pod."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e import access
from e2e.deployed import Deployed
from e2e.kubectl import Json, Kubectl

MANIFEST = Path(__file__).with_name("manifest.yaml")
SENTENCES = ("What does a router do? ", "Who waits in a queue has a deadline. ", "Tokens come one by one. ")
FETCHED = "vllm:external_prefix_cache_hits_total"
FAILED = "vllm:nixl_num_failed_transfers_total"


def _questions(count: int, *, mark: str) -> list[tuple[str, Json]]:
    """(path, body): chats and completions, streamed or not. No two begin alike, or the prefix cache would have the second."""
    common = {"model": "split", "max_tokens": 24, "temperature": 0}
    questions: list[tuple[str, Json]] = []
    for number in range(count):
        text = f"{mark} {number}. " + (SENTENCES[number % len(SENTENCES)] * 30)[: 300 + 30 * number]
        body = common | ({"stream": True, "stream_options": {"include_usage": True}} if number % 4 >= 2 else {})
        if number % 2:
            questions.append(("/v1/chat/completions", body | {"messages": [{"role": "user", "content": text}]}))
        else:
            questions.append(("/v1/completions", body | {"prompt": text, "logprobs": 2}))
    return questions


async def _ask(client: httpx.AsyncClient, path: str, body: Json) -> Json:
    """What the answer says, without what differs between any two answers: text, finish_reason and usage."""
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    if body.get("stream"):
        *events, last = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        assert last == "[DONE]"
        parts = [json.loads(event) for event in events]
    else:
        parts = [answer.json()]
    choices = [choice for part in parts for choice in part["choices"]]
    said = [choice.get("message") or choice.get("delta") or {"content": choice.get("text", "")} for choice in choices]
    return {
        "text": "".join(one.get("content") or "" for one in said),
        "finish_reason": next(choice["finish_reason"] for choice in choices if choice.get("finish_reason")),
        "tokens": next(part["usage"]["prompt_tokens"] for part in parts if part.get("usage")),
        "logprobs": [value for choice in choices for value in (choice.get("logprobs") or {}).get("token_logprobs", ())],
    }


async def _ask_all(client: httpx.AsyncClient, questions: list[tuple[str, Json]]) -> list[Json]:
    return list(await asyncio.gather(*(_ask(client, path, body) for path, body in questions)))


async def _count(client: httpx.AsyncClient, name: str) -> float:
    text = (await client.get("/metrics")).text
    return sum(float(value) for value in re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE))


def _pod(kubectl: Kubectl, split: Deployed, role: str) -> str:
    pods = kubectl.items("pods", f"{split.selector},tokenfleet.dev/role={role}")
    (name,) = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return str(name)


def _client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=60, trust_env=False)


def _same(answers: list[Json], expected: list[Json]) -> None:
    for answer, other in zip(answers, expected, strict=True):
        for field, value in other.items():
            assert answer[field] == pytest.approx(value, abs=1e-4) if field == "logprobs" else answer[field] == value


async def test_answers_are_those_of_one_engine_and_outlive_a_prefill_pod(
    kubectl: Kubectl, deploy: Callable[[Path, str], Deployed]
) -> None:
    split = deploy(MANIFEST, "split")
    split.wait_ready(1)
    reader, writer = _pod(kubectl, split, "prefill"), _pod(kubectl, split, "engine")
    first, second, third = (_questions(8, mark=mark) for mark in ("First", "Second", "Third"))

    with (
        access.base_url(kubectl, "split") as url,
        access.pod_url(kubectl, reader) as reader_url,
        access.pod_url(kubectl, writer) as writer_url,
    ):
        async with _client(url) as router, _client(reader_url) as alone, _client(writer_url) as decode:
            # The prefill pod is an engine too, and answers alone what only tests ask it.
            expected = [await _ask_all(alone, questions) for questions in (first, second)]
            _same([await _ask(router, path, body) for path, body in first], expected[0])
            _same(await _ask_all(router, second), expected[1])
            prompts = sum(answer["tokens"] for answers in expected for answer in answers)
            assert await _count(decode, FETCHED) == prompts, "every token of every prompt was fetched from the prefill pod"
            assert await _count(decode, FAILED) == 0

            several = await router.post("/v1/completions", json=first[0][1] | {"n": 2, "temperature": 0.5})
            assert len(several.json()["choices"]) == 2, "what cannot be transferred is answered all the same"

            kubectl("delete", "pod", reader, "--grace-period=0", "--force", "--wait=false")
            for path, body in third:
                assert (await _ask(router, path, body))["text"]
            kubectl("wait", "--for=condition=Ready", f"pod/{_pod(kubectl, split, 'prefill')}", "--timeout=600s", timeout=610)
            split.wait_ready(1)
            _same([await _ask(router, path, body) for path, body in second], expected[1])
            fetched = await _count(decode, FETCHED)
            fresh: list[Any] = [await _ask(router, path, body) for path, body in _questions(4, mark="Fourth")]
            assert await _count(decode, FETCHED) == fetched + sum(answer["tokens"] for answer in fresh)
