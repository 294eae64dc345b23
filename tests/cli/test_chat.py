"""`tokenfleet chat` against a server of the OpenAI API on loopback."""

import contextlib
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.cli.fleet_objects import deployment, told
from tests.cli.openai_server import OpenAI, refusal
from tokenfleet.cli.chat.commands import Tools
from tokenfleet.cli.chat.conversation import Answer, Conversation, Settings
from tokenfleet.cli.chat.dialogue import Dialogue
from tokenfleet.cli.cluster.target import Target
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.main import app

CHAT = "/v1/chat/completions"
KEYS = {"router": {"auth": {"keysSecret": "team"}}}


def run(server: OpenAI, *words: str, said: str = "", of: dict[str, Any] | None = None) -> Any:
    """of: the LLMDeployment whose router the server is; a URL where left out."""
    tools = Tools(stdin=io.StringIO(said))
    if of is not None:
        target = Target(base_url=f"{server.url}/v1", model="llama", deployment=of)
        tools = Tools(stdin=io.StringIO(said), reach=lambda place, text: contextlib.nullcontext(target))
    return CliRunner().invoke(
        app, ["chat", "llama" if of is not None else server.url, *words], obj=tools, env={"NO_PROXY": "*"}
    )


def done(server: OpenAI, *words: str, said: str = "", of: dict[str, Any] | None = None) -> Any:
    result = run(server, *words, said=said, of=of)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


@pytest.fixture
def server() -> Iterator[OpenAI]:
    with OpenAI().running() as running:
        yield running


def test_one_question_is_answered_with_its_figures(server: OpenAI) -> None:
    result = done(server, "--once", "What is a fleet?", "--system", "Be brief.", "--max-tokens", "9", "--temperature", "0")
    assert result.stdout == "A fleet is many ships.\n"
    assert result.stderr.startswith("first token after ")
    assert "3 tokens" in result.stderr
    path, body, key = server.asked[-1]
    assert (path, key) == (CHAT, None)
    assert body == {
        "model": "demo",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a fleet?"}],
        "max_tokens": 9,
        "temperature": 0.0,
    }


def test_a_pipe_is_a_dialogue_of_a_prompt_a_line(server: OpenAI) -> None:
    result = done(server, "--json", "--key", "tf-1", said="What is a fleet?\n\nAnd a router?\n")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["prompt"] for one in answers] == ["What is a fleet?", "And a router?"]
    assert {one["answer"] for one in answers} == {"A fleet is many ships."}
    assert answers[0]["tokens"] == 3
    assert answers[0]["finishReason"] == "stop"
    _, body, key = server.asked[-1]
    assert [one["role"] for one in body["messages"]] == ["user", "assistant", "user"]
    assert key == "Bearer tf-1"


def test_a_model_without_a_chat_template_continues_the_text(server: OpenAI) -> None:
    server.refusals[CHAT] = (
        400,
        {},
        refusal("default chat template is no longer allowed, so you must provide a chat template"),
    )
    result = done(server, said="A fleet\nA router\n")
    assert result.stdout == "A fleet is many ships.\n" * 2
    assert result.stderr.count("The model has no chat template") == 1, "it is told once"
    assert [path for path, *_ in server.asked] == ["/v1/models", CHAT, "/v1/completions", "/v1/completions"]
    assert server.asked[-1][1]["prompt"] == "A fleet\nA fleet is many ships.\nA router"


@pytest.mark.parametrize(
    ("status", "headers", "key", "words"),
    [
        pytest.param(401, {}, (), "The router wants an API key: give one by --key, or in TOKENFLEET_API_KEY.", id="no key"),
        pytest.param(
            401, {}, ("--key", "tf-secret"), "does not know the key …cret, or it has expired.", id="a key it does not know"
        ),
        pytest.param(401, {}, (), "`tokenfleet keys create NAME -s team -n chat` makes one.", id="and where a key comes from"),
        pytest.param(
            429,
            {"Retry-After": 7},
            (),
            "The server refuses the request for now (429): Too much. Try again in 7 s.",
            id="too many requests",
        ),
        pytest.param(503, {}, (), "The server refuses the request for now (503): Too much.", id="nobody has room"),
        pytest.param(404, {}, (), "The server answered 404: Too much.", id="anything else"),
    ],
)
def test_a_refusal_is_a_sentence(
    server: OpenAI, status: int, headers: dict[str, int], key: tuple[str, ...], words: str
) -> None:
    server.refusals[CHAT] = (status, headers, refusal("Too much"))
    result = run(server, "--once", "hello", *key, of=deployment(spec=KEYS))
    assert isinstance(result.exception, CliError)
    assert words in str(result.exception)


def test_a_stream_that_breaks_off_says_so_after_what_came(server: OpenAI) -> None:
    server.broken = True
    result = run(server, "--once", "hello")
    assert result.stdout == "A fleet "
    assert str(result.exception) == "The answer broke off: the replica was lost."


@pytest.mark.parametrize(
    ("models", "error", "words"),
    [
        pytest.param((), CliError, "The server serves no model", id="no model"),
        pytest.param(("a", "b"), Unusable, "choose one with --model. There are: a, b.", id="several"),
    ],
)
def test_which_model_is_asked(server: OpenAI, models: tuple[str, ...], error: type[CliError], words: str) -> None:
    server.models = models
    result = run(server, "--once", "hello")
    assert type(result.exception) is error
    assert words in str(result.exception)
    done(server, "--once", "hello", "--model", "b")
    assert server.asked[-1][1]["model"] == "b"


def test_what_is_no_server_of_the_api() -> None:
    nobody = OpenAI(url="http://127.0.0.1:1")
    assert "http://127.0.0.1:1/v1 does not answer" in str(run(nobody, "--once", "hello").exception)
    assert "is no URL of a server" in str(run(OpenAI(url="ftp://host"), "--once", "hello").exception)
    with OpenAI(refusals={"/v1/models": (200, {}, "<html>")}).running() as page:
        assert "answers no JSON: is this a server of the OpenAI API?" in str(run(page, "--once", "hello").exception)


def test_a_model_that_sleeps_is_woken_and_one_that_nobody_wakes_is_not_asked(server: OpenAI) -> None:
    asleep = [told("Ready", "False", "ScaledToZero", "Autoscaling wants no engine right now.")]
    sleeping = deployment(spec={"autoscaling": {"minReplicas": 0}}, conditions=asleep)
    assert "No replica runs: this request wakes the model." in done(server, "--once", "hello", of=sleeping).stderr
    asked = len(server.asked)
    stopped = run(server, "--once", "hello", of=deployment(spec={"replicas": 0}, conditions=asleep))
    assert "kubectl -n chat scale llmd/llama --replicas=1" in str(stopped.exception)
    off = [told("Ready", "False", "Suspended", "…")]
    suspended = run(server, "--once", "hello", of=deployment(conditions=off))
    assert "tokenfleet resume llama -n chat" in str(suspended.exception)
    assert len(server.asked) == asked


def test_commands_within_a_dialogue() -> None:
    class Silent:
        def events(self, conversation: Conversation, settings: Settings) -> Any:
            raise AssertionError("nothing is asked")

    notes = io.StringIO()
    dialogue = Dialogue(server=Silent(), settings=Settings(model="demo"), clock=lambda: 0.0, notes=notes)
    dialogue.conversation = Conversation("Be brief.").asked("a").answered("b")
    assert dialogue.command("/reset")
    assert dialogue.conversation == Conversation("Be brief.")
    assert dialogue.command("/system Be long.")
    assert dialogue.conversation == Conversation("Be long.")
    assert dialogue.command("/what")
    assert "/reset forgets what was said" in notes.getvalue()
    assert not dialogue.command("/quit")


def test_figures_count_from_the_first_token_on() -> None:
    answer = Answer(sent=10.0)
    for now in (10.5, 11.0, 11.5):
        answer.take({"choices": [{"delta": {"content": "x"}}]}, now)
    answer.take({"choices": [{"finish_reason": "length"}], "usage": {"completion_tokens": 5}}, 11.5)
    assert (answer.ttft, answer.rate) == (0.5, 4.0), "four further tokens in a second"
    assert answer.figures() == "first token after 0.50 s, 4.0 tokens/s, 5 tokens, cut at the greatest length"
