"""The simulator's answers beside those that a real vLLM gave to the same requests: every field, in the same order."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.engine.simulation.conftest import Simulated, samples

SAMPLES = samples()
TEXTS = frozenset({"text", "content", "prompt"})
NUMBERS = frozenset(
    {"count", "id", "created", "root", "tokens", "prompt_token_ids", "token_ids", "version", "system_fingerprint"}
)
"""What another model, or another moment, makes different."""


def _body(request: dict[str, Any]) -> bytes:
    if "raw" in request:
        return str(request["raw"]).encode()
    if "body" not in request:
        return b""
    text = json.dumps(request["body"])
    for count in (1000, 2048, 3000):
        text = text.replace(json.dumps({"repeat": count}), json.dumps(" word" * count))
    return text.encode()


def _shape(value: Any, name: str = "") -> Any:
    """With a placeholder for what is another one's text, number or moment."""
    if isinstance(value, dict):
        counted = _usage(value) if "total_tokens" in value else value
        return {key: _shape(each, key) for key, each in counted.items()}
    if name in NUMBERS and value is not None:
        return f"<{name}>"
    if isinstance(value, list):
        return [_shape(each) for each in value]
    if name in TEXTS and value:
        return "<text>"
    return value


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    return {**usage, "prompt_tokens": "<tokens>", "total_tokens": "<tokens>"}


def _json(value: Any, *, stopped: bool) -> str:
    """Our text comes to a stop string after another number of tokens, and in the middle of one."""
    text = json.dumps(_shape(value))
    return re.sub(r'"completion_tokens": \d+|"<text>"|""', "…", text) if stopped else text


def _events(body: bytes) -> list[Any]:
    return ["[DONE]" if line == b"data: [DONE]" else json.loads(line[6:]) for line in body.split(b"\n\n") if line]


def _comparable(events: list[Any], *, stopped: bool) -> list[str]:
    """Of several choices the order is chance; a stream that was stopped is compared from its last token on."""
    return sorted(_json(event, stopped=stopped) for event in (events[-3:] if stopped else events))


@pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in SAMPLES])
async def test_an_answer_has_the_shape_of_vllms(simulate: Callable[..., Simulated], name: str) -> None:
    sample = SAMPLES[name]
    request = sample["request"]
    body = _body(request)
    headers = {"content-type": "application/json"} if body or "raw" in request else {}
    start, *parts = await simulate().exchange(
        request["method"], request["path"], body, {**headers, **request.get("headers", {})}
    )
    content = b"".join(part["body"] for part in parts)
    found = {key.decode(): value.decode() for key, value in start["headers"]}

    assert start["status"] == sample["status"], content
    assert {key: found.get(key) for key in sample["headers"]} == sample["headers"]
    stopped = "stop" in request.get("body", {})
    if "events" in sample:
        ours, theirs = _events(content), sample["events"]
        assert _comparable(ours, stopped=stopped) == _comparable(theirs, stopped=stopped)
        assert (ours[-1], list(ours[0])) == ("[DONE]", list(theirs[0]))
    elif "json" in sample:
        assert _json(json.loads(content), stopped=stopped) == _json(sample["json"], stopped=stopped)
    else:
        assert content == b""


async def test_the_names_of_adapters_are_models_too(simulate: Callable[..., Simulated]) -> None:
    engine = simulate(adapters={"sql": "/cache/sql"})
    cards = (await engine.ask("GET", "/v1/models")).json()["data"]
    assert [(card["id"], card["root"], card["parent"], card["max_model_len"]) for card in cards] == [
        ("demo", "demo", None, 2048),
        ("sql", "/cache/sql", "demo", None),
    ]
    base = await engine.complete(model="demo", prompt="One", max_tokens=6)
    other = await engine.complete(model="sql", prompt="One", max_tokens=6)
    assert (base["model"], other["model"]) == ("demo", "sql")
    assert base["choices"][0]["text"] != other["choices"][0]["text"]


async def test_a_chat_goes_on_where_another_replica_stopped(simulate: Callable[..., Simulated]) -> None:
    messages = [{"role": "user", "content": "Tell me a story"}]
    whole = (await simulate().chat(messages=messages, max_tokens=20))["choices"][0]["message"]["content"]
    first = (await simulate().chat(messages=messages, max_tokens=7))["choices"][0]["message"]["content"]
    again = await simulate().chat(
        messages=[*messages, {"role": "assistant", "content": first}], max_tokens=13, add_generation_prompt=False,
        continue_final_message=True,
    )  # fmt: skip
    assert first + again["choices"][0]["message"]["content"] == whole


async def test_tokens_of_a_prompt_are_those_that_tokenize_gives(simulate: Callable[..., Simulated]) -> None:
    engine = simulate()
    tokens = (await engine.ask("POST", "/tokenize", {"prompt": "One two three"})).json()["tokens"]
    by_text = await engine.complete(prompt="One two three", max_tokens=9)
    by_tokens = await engine.complete(prompt=tokens, max_tokens=9)
    assert by_text["choices"] == by_tokens["choices"]
    assert by_text["usage"]["prompt_tokens"] == len(tokens) == 3


async def test_choices_differ_and_a_seed_repeats_them(simulate: Callable[..., Simulated]) -> None:
    engine = simulate()
    one, two = [await engine.complete(prompt="One", max_tokens=9, n=3, seed=seed) for seed in (1, 2)]
    assert (await engine.complete(prompt="One", max_tokens=9, n=3, seed=1))["choices"] == one["choices"]
    assert len({choice["text"] for answer in (one, two) for choice in answer["choices"]}) == 6


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"logprobs": 1}, id="logprobs"),
        pytest.param({"response_format": {"type": "json_object"}}, id="a format that means something"),
        pytest.param({"use_beam_search": True}, id="beam search"),
        pytest.param({"kv_transfer_params": {"do_remote_decode": True}}, id="a transfer of KV blocks"),
    ],
)
async def test_what_is_not_simulated_is_refused(simulate: Callable[..., Simulated], more: dict[str, Any]) -> None:
    answer = await simulate().ask("POST", "/v1/completions", {"prompt": "One", **more})
    assert answer.status == 400
    assert answer.json()["error"]["message"] == f"`{next(iter(more))}` is not simulated: leave it out."
