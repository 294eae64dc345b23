"""One stream of two halves: what the second replica's events become, and from where it is asked to go on."""

from typing import Any

import msgspec
import pytest

from tests.router.test_transcript import DONE, delta, event, said, transcript
from tokenfleet.router import fields, routes
from tokenfleet.router.balancing.replicas import Replicas
from tokenfleet.router.callers.keys import ANONYMOUS
from tokenfleet.router.continuing.sequel import Counts, Sequel
from tokenfleet.router.continuing.splice import Splice
from tokenfleet.router.continuing.transcript import Heading, Transcript
from tokenfleet.router.jobs import Job
from tokenfleet.router.models import Model, Pool
from tokenfleet.router.usage import Usage
from tokenfleet.router.wire.limits import Limits
from tokenfleet.router.wire.request import parse

FIRST = Heading(id="one", object="text_completion", created=1, model="mine")


def events(data: bytes) -> list[Any]:
    return [msgspec.json.decode(each.removeprefix(b"data: ")) for each in data.split(b"\n\n") if each.startswith(b"data: {")]


def splice(*, role: bool = True, repeated: str = "", sent: int = 5) -> Splice:
    return Splice(FIRST, role=role, repeated=repeated, sent=sent)


# --- Events


def test_events_get_the_first_replicas_heading_and_keep_all_else_byte_by_byte() -> None:
    raw = b'data: {"id":"two","created":2,"model":"theirs","choices":[{"index":0,"text":"\\u00e9 1.50"}],"odd": 1.50}\n\n'
    wanted = raw.replace(b"two", b"one").replace(b'"created":2', b'"created":1').replace(b"theirs", b"mine")
    assert splice(role=False).feed(raw + b": ping\n\n" + DONE) == wanted.replace(b'"odd": ', b'"odd":') + b": ping\n\n" + DONE


def test_whose_message_it_is_is_not_said_twice() -> None:
    joined = splice()
    assert joined.feed(delta(role="assistant", content="")) == b""
    (first,) = events(joined.feed(delta(role="assistant", content="a")))
    assert first["choices"][0]["delta"] == {"content": "a"}


def test_whose_message_it_is_is_said_where_it_was_not() -> None:
    (first,) = events(splice(role=False).feed(delta(role="assistant", content="")))
    assert first["choices"][0]["delta"]["role"] == "assistant"


@pytest.mark.parametrize(
    ("repeated", "texts", "passed"),
    [
        pytest.param("\n\n", ["\n\n", "So"], "So", id="what comes again"),
        pytest.param("\n\n", ["\n", "\n", "So"], "So", id="in parts"),
        pytest.param("\n\n", ["\n\nSo"], "So", id="together with what is new"),
        pytest.param("\n\n", ["So"], "So", id="what does not come again"),
        pytest.param("\n\n", ["\nSo", "\n"], "So\n", id="what comes in part"),
        pytest.param(" gu", [" guess", " gu"], "ess gu", id="a word that was cut"),
    ],
)
@pytest.mark.parametrize("chat", [True, False])
def test_what_was_passed_is_not_passed_again(repeated: str, texts: list[str], passed: str, chat: bool) -> None:
    joined = splice(repeated=repeated, role=chat)
    made = [delta(role="assistant", content="")] if chat else []
    made += [delta(content=text) if chat else said(text) for text in texts]
    assert transcript(*(joined.feed(each) for each in made)).text() == passed


def test_an_end_passes_even_where_its_text_was_passed_before() -> None:
    (last,) = events(splice(repeated="\n").feed(delta("stop", content="\n")))
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({"content": ""}, "stop")


def test_usage_counts_what_was_sent_before_to_the_answer() -> None:
    used = {"prompt_tokens": 15, "total_tokens": 22, "completion_tokens": 7, "prompt_tokens_details": None}
    (one,) = events(splice().feed(event(choices=[], usage=used)))
    assert one["usage"] == {**used, "prompt_tokens": 10, "completion_tokens": 12}
    assert splice().usage(Usage(15, 7)) == Usage(10, 12)


# --- From where


def sequel(body: dict[str, Any], so_far: Transcript, *, path: bytes = routes.COMPLETIONS) -> Sequel:
    raw = msgspec.json.encode({"model": "llama", "stream": True, **body})
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path, len(raw))
    model = Model("llama", clock=lambda: 0.0)
    job = Job(parse(head, Limits()), b"1", raw, fields.read(raw), model, ANONYMOUS, "", 0, None, 0.0)
    return Sequel(job, so_far)


def chat(text: str, **body: Any) -> Sequel:
    messages = {"messages": [{"role": "user", "content": "Hi"}]}
    return sequel({**messages, **body}, transcript(delta(role="assistant", content=text)), path=routes.CHAT)


def pool(most: int | None = None) -> Pool:
    made = Pool("llama", Replicas(), served_name="served")
    made.max_tokens = most
    return made


def test_a_chat_goes_on_from_before_white_space_that_templates_drop() -> None:
    found = chat("Well.\n\n")
    assert msgspec.json.decode(found.body(pool()))["messages"][-1] == {"role": "assistant", "content": "Well."}
    assert found.repeated == "\n\n"


def test_a_chat_of_white_space_alone_begins_anew() -> None:
    found = chat("\n")
    assert "continue_final_message" not in msgspec.json.decode(found.body(pool()))
    assert (found.questions, found.repeated) == ((), "\n")


@pytest.mark.parametrize(
    ("body", "text", "repeated"),
    [
        pytest.param({"stop": "X", "temperature": 0}, "I gu", " gu", id="greedy: from before the word"),
        pytest.param({"stop": ["X"], "temperature": 0.0}, "I\ngu", "\ngu", id="which may begin with a line feed"),
        pytest.param({"stop": "X", "temperature": 0}, "gu", "", id="without any white space: from its end"),
        pytest.param({"stop": "X", "temperature": 0.5}, "I gu", "", id="not greedy: it might write another word"),
        pytest.param({"stop": "X", "temperature": None}, "I gu", "", id="the usual temperature is not zero"),
        pytest.param({"temperature": 0}, "I gu", "", id="without stop strings a text ends with a token"),
        pytest.param({"stop": [], "temperature": 0}, "I gu", "", id="no stop strings are none"),
    ],
)
def test_where_a_completion_goes_on(body: dict[str, Any], text: str, repeated: str) -> None:
    found = sequel({"prompt": "P:", **body}, transcript(said(text)))
    assert found.repeated == repeated
    assert msgspec.json.decode(found.body(pool()))["prompt"] == "P:" + text.removesuffix(repeated)


@pytest.mark.parametrize(
    ("body", "most", "left"),
    [
        pytest.param({"max_tokens": 50}, None, 40, id="what its client said"),
        pytest.param({}, None, 6, id="a completion's usual 16"),
        pytest.param({}, 12, 2, id="the spec's bound, where that is less"),
        pytest.param({"max_tokens": 500}, None, 80, id="the room that there is"),
        pytest.param({"max_tokens": 7}, None, 0, id="nothing"),
    ],
)
def test_how_much_may_come_yet(body: dict[str, Any], most: int | None, left: int) -> None:
    found = sequel({"prompt": "P:", **body}, transcript(said("text")))
    found.counts = Counts(prompt=10, whole=20, context=100)
    assert found.left(pool(most)) == left


def test_a_chat_without_a_bound_may_have_all_the_room() -> None:
    found = chat("text")
    found.counts = Counts(prompt=10, whole=20, context=None)
    assert (found.left(pool()), found.left(pool(30))) == (None, 20)


def test_a_chat_has_one_bound_of_its_two() -> None:
    found = chat("text", max_tokens=100, max_completion_tokens=50)
    found.counts = Counts(prompt=10, whole=20, context=None)
    body = msgspec.json.decode(found.body(pool()))
    assert (body["max_tokens"], "max_completion_tokens" in body, body["model"]) == (40, False, "served")
