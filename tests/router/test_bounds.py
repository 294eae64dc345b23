"""What one request may ask of an engine: each bound, and each way around it that engines would let pass."""

import msgspec
import pytest

from tokenfleet.router import fields
from tokenfleet.router.callers import bounds
from tokenfleet.router.rejections import Rejected
from tokenfleet.router.terms import Bounds

_DEFAULT = Bounds()
_OPEN = Bounds(media_urls="Allow", prompt_embeds="Allow")
_PIXEL = "data:image/png;base64,iVBORw0KGgo="
_HTTP = "https://example.org/cat.png"


def check(body: object, limits: Bounds = _DEFAULT) -> None:
    """body: an object, or its JSON without the model."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    bounds.check(fields.read(b'{"model": "llama", ' + raw.removeprefix(b"{")), limits)


def refusal(body: object, limits: Bounds = _DEFAULT) -> Rejected:
    with pytest.raises(Rejected) as caught:
        check(body, limits)
    assert caught.value.kind.status == 400
    return caught.value


def part(**content: object) -> dict[str, object]:
    return {"messages": [{"role": "system", "content": "Look."}, {"role": "user", "content": [content]}]}


@pytest.mark.parametrize(
    ("body", "limits"),
    [
        pytest.param({"messages": [{"role": "user", "content": "Hello"}]}, _DEFAULT, id="a plain chat"),
        pytest.param({"n": 8, "best_of": 8, "top_logprobs": 20, "logprobs": True}, _DEFAULT, id="each bound just reached"),
        pytest.param(
            {"n": None, "max_tokens": None, "logprobs": None, "messages": None}, _DEFAULT, id="null is as good as absent"
        ),
        pytest.param({"max_tokens": 100_000}, _DEFAULT, id="no bound of tokens unless the spec sets one"),
        pytest.param({"max_tokens": 0, "echo": True}, Bounds(max_tokens=10), id="an echo without an answer"),
        pytest.param({"logprobs": True}, Bounds(max_logprobs=0), id="the logprobs of the answer's own tokens"),
        pytest.param({"logprobs": 0, "prompt_logprobs": 0}, Bounds(max_logprobs=0), id="no alternatives, asked for in numbers"),
        pytest.param({"logprob_token_ids": [1, 2, 3]}, Bounds(max_logprobs=3), id="as many token ids as logprobs"),
        pytest.param(part(type="image_url", image_url={"url": _PIXEL}), _DEFAULT, id="an image as data"),
        pytest.param(
            part(type="image_url", image_url={"url": _PIXEL.replace("data", "DATA")}), _DEFAULT, id="as data, in capitals"
        ),
        pytest.param(part(type="input_audio", input_audio={"data": "UklG", "format": "wav"}), _DEFAULT, id="a sound as data"),
        pytest.param(part(type="text", text="image_url: https://example.org/"), _DEFAULT, id="an address in a text"),
        pytest.param(part(type="image_url", image_url=None, uuid="7"), _DEFAULT, id="an image that the engine has already"),
        pytest.param({"messages": [{"role": "assistant", "tool_calls": []}]}, _DEFAULT, id="a message without content"),
        pytest.param({"messages": [{"role": "user", "content": ["Hello", None]}]}, _DEFAULT, id="texts in a list"),
        pytest.param({"prompt_embeds": None, "kv_transfer_params": None, "vllm_xargs": None}, _DEFAULT, id="nulls"),
        pytest.param({"chat_template_kwargs": {"enable_thinking": False}}, _DEFAULT, id="what a template is told"),
        pytest.param({"vllm_xargs": {"mine": 1}}, _DEFAULT, id="what an extension of the engine is told"),
        pytest.param({"priority": 0}, _DEFAULT, id="the engine's usual priority"),
        pytest.param(part(type="image_url", image_url={"url": _HTTP}), _OPEN, id="an address, where the spec allows it"),
        pytest.param(part(type="image_embeds", image_embeds="AAAA"), _OPEN, id="embeddings, where the spec allows them"),
        pytest.param({"prompt": "a", "prompt_embeds": "AAAA"}, _OPEN, id="a prompt's embeddings, where the spec allows them"),
        pytest.param(
            {"tools": [{"function": {"parameters": {"image_url": _HTTP}}}]}, _DEFAULT, id="an address that nobody fetches"
        ),
    ],
)
def test_what_is_within_bounds_passes(body: dict[str, object], limits: Bounds) -> None:
    check(body, limits)


@pytest.mark.parametrize(
    ("body", "limits", "param", "words"),
    [
        pytest.param({"n": 9}, _DEFAULT, "n", "must be 1 to 8 here (spec.router.bounds.maxChoices)", id="too many choices"),
        pytest.param({"n": 0}, _DEFAULT, "n", "must be 1 to 8", id="no choice, which would make the estimate nothing"),
        pytest.param({"n": -5}, _DEFAULT, "n", "must be 1 to 8", id="choices below zero"),
        pytest.param({"n": 1.5}, _DEFAULT, "n", "Expected `int", id="half a choice"),
        pytest.param({"n": "9"}, _DEFAULT, "n", "Expected `int", id="choices in a string, which engines would read"),
        pytest.param({"n": True}, _DEFAULT, "n", "Expected `int", id="a choice that is true"),
        pytest.param(b'{"\\u006e": 9}', _DEFAULT, "n", "must be 1 to 8", id="a field's name in escapes"),
        pytest.param(b'{"n": 1, "n": 9}', _DEFAULT, "n", "must be 1 to 8", id="a field twice: the last one counts"),
        pytest.param({"best_of": 9}, _DEFAULT, "best_of", "must be 1 to 8", id="the best of too many"),
        pytest.param({"max_tokens": 11}, Bounds(max_tokens=10), "max_tokens", "must be 0 to 10", id="too long an answer"),
        pytest.param(
            {"max_tokens": -1}, _DEFAULT, "max_tokens", "must be 0 to", id="an answer below zero, which would pay back"
        ),
        pytest.param({"max_tokens": 10**300}, _DEFAULT, "max_tokens", "must be 0 to", id="an answer beyond all measure"),
        pytest.param(
            {"max_tokens": 1, "max_completion_tokens": 11},
            Bounds(max_tokens=10),
            "max_completion_tokens",
            "must be 0 to 10 here (spec.router.bounds.maxTokens)",
            id="too long an answer by the other name",
        ),
        pytest.param({"logprobs": 21}, _DEFAULT, "logprobs", "must be 0 to 20", id="too many logprobs"),
        pytest.param({"logprobs": -1}, _DEFAULT, "logprobs", "must be 0 to 20", id="logprobs of all the words there are"),
        pytest.param({"top_logprobs": 21}, _DEFAULT, "top_logprobs", "must be 0 to 20", id="too many of the top"),
        pytest.param({"top_logprobs": -1}, _DEFAULT, "top_logprobs", "must be 0 to 20", id="all of the top"),
        pytest.param({"prompt_logprobs": -1}, _DEFAULT, "prompt_logprobs", "must be 0 to 20", id="all of the prompt"),
        pytest.param({"logprob_token_ids": [1] * 21}, _DEFAULT, "logprob_token_ids", "0 to 20", id="too many token ids"),
        pytest.param({"logprob_token_ids": "a"}, _DEFAULT, "logprob_token_ids", "list of token ids", id="no token ids"),
        pytest.param({"priority": -1}, _DEFAULT, "priority", "that of the API key", id="a priority of one's own"),
        pytest.param({"prompt_embeds": "AAAA"}, _DEFAULT, "prompt_embeds", "promptEmbeds", id="a prompt's embeddings"),
        pytest.param(
            {"kv_transfer_params": {"do_remote_prefill": True}}, _OPEN, "kv_transfer_params", "alone", id="KV from there"
        ),
        pytest.param({"ec_transfer_params": {}}, _OPEN, "ec_transfer_params", "alone", id="an encoder's cache from there"),
        pytest.param(
            {"vllm_xargs": {"a": 1, "kv_transfer_params": "x"}},
            _OPEN,
            "vllm_xargs.kv_transfer_params",
            "not taken",
            id="KV from there, by the back door",
        ),
        pytest.param({"vllm_xargs": "kv_transfer_params"}, _OPEN, "vllm_xargs", "not an object", id="no arguments"),
        pytest.param({"chat_template": "{% for i in range(10**9) %}"}, _OPEN, "chat_template", "program", id="a template"),
        pytest.param(
            {"chat_template_kwargs": {"chat_template": "{{ x }}"}},
            _OPEN,
            "chat_template_kwargs.chat_template",
            "not taken",
            id="a template, by the back door",
        ),
        pytest.param({"mm_processor_kwargs": {"a": 1}}, _OPEN, "mm_processor_kwargs", "engine.extraArgs", id="a processor's"),
        pytest.param({"media_io_kwargs": {"a": {}}}, _OPEN, "media_io_kwargs", "engine.extraArgs", id="a loader's"),
        pytest.param({"messages": 5}, _DEFAULT, "messages", "not what this API takes", id="messages that are none"),
        pytest.param({"messages": [{"content": {"a": 1}}]}, _DEFAULT, "messages", "not what", id="content that is an object"),
        pytest.param({"messages": [{"content": [5]}]}, _DEFAULT, "messages", "not what", id="a part that is a number"),
        pytest.param(part(image_url={"url": 5}), _DEFAULT, "messages", "not what", id="an address that is a number"),
    ],
)
def test_what_is_refused(body: object, limits: Bounds, param: str, words: str) -> None:
    rejected = refusal(body, limits)
    assert rejected.param == param
    assert words in rejected.message


_WHERE = "messages[1].content[0]"


@pytest.mark.parametrize(
    ("content", "param"),
    [
        pytest.param({"type": "image_url", "image_url": {"url": _HTTP}}, ".image_url", id="an image"),
        pytest.param({"type": "image_url", "image_url": {"url": _HTTP.upper()}}, ".image_url", id="an image, in capitals"),
        pytest.param({"type": "video_url", "video_url": {"url": _HTTP}}, ".video_url", id="a video"),
        pytest.param({"type": "audio_url", "audio_url": {"url": _HTTP}}, ".audio_url", id="a sound"),
        pytest.param({"type": "input_image", "image_url": _HTTP}, ".image_url", id="an image of the other API"),
        pytest.param({"image_url": _HTTP}, ".image_url", id="no type, and no object"),
        pytest.param({"type": "text", "uuid": "7", "image_url": _HTTP}, ".image_url", id="a text with an image"),
        pytest.param(
            {"type": "image_url", "image_url": {"url": _PIXEL}, "video_url": _HTTP}, ".video_url", id="data, and an address"
        ),
        pytest.param({"type": "image_embeds", "image_embeds": "AAAA"}, "", id="embeddings"),
        pytest.param({"type": "prompt_embeds", "data": "AAAA"}, "", id="a prompt's embeddings, under a name of theirs"),
        pytest.param({"audio_embeds": {"a": "AAAA"}}, "", id="embeddings without a type"),
    ],
)
def test_media_by_address_and_embeddings_are_refused(content: dict[str, object], param: str) -> None:
    assert refusal(part(**content)).param == _WHERE + param
    check(part(**content), _OPEN)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.org/", "/etc/passwd", " https://example.org/", "", "https:/x"]
)
def test_addresses_that_no_spec_allows(url: str) -> None:
    assert "data: URL" in refusal(part(type="image_url", image_url={"url": url}), _OPEN).message


def test_escapes_hide_nothing() -> None:
    raw = msgspec.json.encode(part(type="image_url", image_url={"url": _HTTP}))
    hidden = raw.replace(b'"image_url":', b'"image\\u005furl":').replace(b"https", b"\\u0068ttps")
    assert refusal(hidden).param == f"{_WHERE}.image_url"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(
            {"query": {"content": [{"type": "image_url", "image_url": {"url": _HTTP}}]}}, "fetch nothing", id="a query"
        ),
        pytest.param({"documents": [{"content": [{"image_url": _HTTP}]}]}, "fetch nothing", id="a document"),
        pytest.param({"documents": [{"content": [{"image_url": "file:///a"}]}]}, "no URL", id="a file"),
        pytest.param({"text_1": {"content": [{"type": "image_embeds"}]}}, "embeddings", id="embeddings"),
    ],
)
def test_what_is_ranked_and_scored_is_looked_through_whole(body: dict[str, object], words: str) -> None:
    with pytest.raises(Rejected) as caught:
        bounds.check_documents(msgspec.json.encode(body), _DEFAULT)
    assert words in caught.value.message


def test_texts_to_rank_pass() -> None:
    body = {"query": "a", "documents": ["https://example.org/", {"content": [{"image_url": {"url": _PIXEL}}]}, 5, None]}
    bounds.check_documents(msgspec.json.encode(body), _DEFAULT)


@pytest.mark.parametrize(
    ("body", "most", "unsaid"),
    [
        pytest.param({"messages": []}, 100, True, id="a chat that does not say"),
        pytest.param({"messages": [], "max_tokens": None}, 100, True, id="a chat that says null"),
        pytest.param({"messages": [], "max_tokens": 5}, 100, False, id="a chat that says"),
        pytest.param({"messages": [], "max_completion_tokens": 5}, 100, False, id="a chat that says by the other name"),
        pytest.param({"prompt": "a"}, 100, False, id="a completion, whose default is within the bound"),
        pytest.param({"prompt": "a"}, 10, True, id="a completion, whose default is not"),
        pytest.param({"input": "a"}, 10, False, id="embeddings, which have no answer"),
    ],
)
def test_who_does_not_say_how_long_an_answer_may_be(body: dict[str, object], most: int, unsaid: bool) -> None:
    read = fields.read(msgspec.json.encode({"model": "llama", **body}))
    assert bounds.unsaid_tokens(read, most) is unsaid
