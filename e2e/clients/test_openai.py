"""The official `openai` client gets through the router what it gets straight from vLLM: answers, streams, tools and errors.

Each row is asked of both, greedily, and what differs by nature (ids, times, the router's own request id) is left out.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from e2e import access
from e2e.deployed import Deployed
from e2e.kubectl import Kubectl

MANIFEST = Path(__file__).with_name("manifest.yaml")
MESSAGES = [{"role": "user", "content": "What does a router do?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather in a city.", "parameters": SCHEMA}}
CHOICE = {"type": "function", "function": {"name": "weather"}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}}
CHANGING = {"id", "created", "system_fingerprint", "_request_id"}

Json = dict[str, Any]


@pytest.fixture(scope="module")
def urls(kubectl: Kubectl) -> Iterator[tuple[str, str]]:
    """(through the router, straight to the engine's pod)."""
    kubectl.apply_file(MANIFEST)
    clients = Deployed(kubectl, "clients")
    try:
        clients.wait_ready(1)
        (engine,) = clients.engines()
        with access.base_url(kubectl, "clients") as routed:
            yield f"{routed}/v1", f"http://{engine['status']['podIP']}:8000/v1"
    finally:
        clients.delete()


def client(url: str) -> OpenAI:
    return OpenAI(
        base_url=url, api_key="none", max_retries=0, http_client=openai.DefaultHttpxClient(trust_env=False, timeout=60)
    )


def plain(value: Any) -> Any:
    """Without what differs from one answer to the next."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if name not in CHANGING}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def merged(events: list[Any]) -> Json:
    """A stream as what it comes to: an engine under load puts several tokens into one event, now these and now those."""
    choices: dict[int, Json] = {}
    usage = [event.usage.model_dump() for event in events if event.usage]
    for choice in (choice for event in events for choice in event.choices):
        whole = choices.setdefault(choice.index, {"role": "", "content": "", "called": "", "arguments": "", "logprobs": []})
        delta, calls = choice.delta, choice.delta.tool_calls or ()
        whole["role"] = whole["role"] or delta.role
        whole["content"] += delta.content or ""
        whole["called"] += "".join(call.function.name or "" for call in calls if call.function)
        whole["arguments"] += "".join(call.function.arguments or "" for call in calls if call.function)
        whole["logprobs"] += [token.model_dump() for token in (choice.logprobs and choice.logprobs.content) or ()]
        whole["finish_reason"] = choice.finish_reason or whole.get("finish_reason")
    return {"choices": choices, "usage": usage, "model": {event.model for event in events}}


CHATS = [
    pytest.param({}, id="a chat"),
    pytest.param({"n": 2, "temperature": 0.8, "seed": 7}, id="two choices, by a seed"),
    pytest.param({"logprobs": True, "top_logprobs": 3}, id="with log probabilities"),
    pytest.param({"stop": ["e"]}, id="with a stop"),
    pytest.param({"tools": [TOOL], "tool_choice": CHOICE}, id="a tool that has to be called"),
    pytest.param({"response_format": FORMAT}, id="an answer in a JSON schema"),
]


def chat(options: Json) -> Json:
    return {"model": "tiny", "messages": MESSAGES, "max_tokens": 24, "temperature": 0, **options}


@pytest.mark.parametrize("options", CHATS)
def test_a_whole_answer_is_the_same(urls: tuple[str, str], options: Json) -> None:
    routed, straight = (plain(client(url).chat.completions.create(**chat(options)).model_dump()) for url in urls)
    assert routed == straight
    assert routed["choices"][0]["message"]["content"] or routed["choices"][0]["message"]["tool_calls"]


@pytest.mark.parametrize("options", [*CHATS, pytest.param({"stream_options": {"include_usage": True}}, id="with its usage")])
def test_a_stream_comes_to_the_same(urls: tuple[str, str], options: Json) -> None:
    routed, straight = (list(client(url).chat.completions.create(**chat(options), stream=True)) for url in urls)
    assert merged(routed) == merged(straight)
    assert len(routed) > 1


async def test_the_asynchronous_client_gets_the_same_stream(urls: tuple[str, str]) -> None:
    async def ask(url: str) -> list[Any]:
        async with AsyncOpenAI(
            base_url=url, api_key="none", max_retries=0, http_client=openai.DefaultAsyncHttpxClient(trust_env=False, timeout=60)
        ) as one:
            stream: AsyncIterator[Any] = await one.chat.completions.create(**chat({}), stream=True)
            return [event async for event in stream]

    routed, straight = [await ask(url) for url in urls]
    assert merged(routed) == merged(straight)
    assert len(routed) > 1


def test_completions_and_models_are_the_same(urls: tuple[str, str]) -> None:
    question: Json = {"model": "tiny", "prompt": "The router", "max_tokens": 24, "temperature": 0, "logprobs": 2}
    routed, straight = (plain(client(url).completions.create(**question).model_dump()) for url in urls)
    assert routed == straight
    assert [[model.id for model in client(url).models.list()] for url in urls] == [["tiny"], ["tiny"]]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"max_tokens": 100_000}, openai.BadRequestError, id="more tokens than the model has"),
        pytest.param({"temperature": -3}, openai.BadRequestError, id="a temperature below zero"),
        pytest.param({"messages": "hello"}, openai.BadRequestError, id="messages that are no list"),
        pytest.param({"model": "gpt-none"}, openai.NotFoundError, id="a model that is not served"),
    ],
)
def test_errors_are_of_the_same_class(urls: tuple[str, str], change: Json, error: type[openai.APIStatusError]) -> None:
    for url in urls:
        with pytest.raises(error) as raised:
            client(url).chat.completions.create(**{**chat({}), **change})
        assert raised.value.message


def test_a_stream_that_its_client_leaves_frees_the_engine(urls: tuple[str, str]) -> None:
    stream = client(urls[0]).chat.completions.create(
        **{**chat({}), "max_tokens": 400, "extra_body": {"ignore_eos": True}}, stream=True
    )
    next(iter(stream))
    stream.close()
    load = httpx.get(f"{urls[1].removesuffix('/v1')}/tokenfleet/load", trust_env=False, timeout=10)
    # The engine hears of it at once; one look may still come a moment too early.
    for _ in range(50):
        if load.json()["in_flight"] == 0:
            break
        load = httpx.get(f"{urls[1].removesuffix('/v1')}/tokenfleet/load", trust_env=False, timeout=10)
    assert load.json()["in_flight"] == 0
