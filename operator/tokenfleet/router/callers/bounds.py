"""What one request may ask of an engine: how much, from where, and which of the engine's inner workings. Pure.

Amounts (choices, tokens, logprobs) are bounded by the spec. Media are taken as data, from an address only where the spec allows
it, and never from the engine's own files; embeddings, which an engine loads as they are, likewise. Some fields of vLLM are
never a client's business, for the reasons in _REFUSED. Whatever cannot be looked through is refused, lest it be looked at
otherwise by the engine. docs/keys-and-limits.md has the whole list, and what is left to the engine.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from tokenfleet.router.fields import Fields
from tokenfleet.router.rejections import INVALID_BODY, OUT_OF_BOUNDS, Rejected
from tokenfleet.router.terms import Bounds

_ABSENT: Final = msgspec.Raw(b"")
_NULL: Final = msgspec.Raw(b"null")
_EMBEDS: Final = ("image_embeds", "audio_embeds", "video_embeds", "prompt_embeds")
_URLS: Final = ("image_url", "audio_url", "video_url")
_MOST_TOKENS: Final = 2**31 - 1
"""Where the spec sets no bound: no engine has a longer context."""
USUAL_COMPLETION: Final = 16
"""max_tokens of a completion that does not say."""
_MOVES: Final = "the router alone says from where and to where an engine moves a cache"
_REFUSED: Final = {
    "kv_transfer_params": _MOVES,
    "ec_transfer_params": _MOVES,
    "chat_template": "a template is a program that the engine runs; the model's own is used, or that of engine.extraArgs",
    "mm_processor_kwargs": "it changes what media cost an engine; set it for all in engine.extraArgs",
    "media_io_kwargs": "it changes what media cost an engine; set it for all in engine.extraArgs",
}
_REFUSED_INSIDE: Final = {
    "vllm_xargs": frozenset(("kv_transfer_params", "ec_transfer_params")),
    "chat_template_kwargs": frozenset(("chat_template", "tokenize")),
}


class _Url(msgspec.Struct, frozen=True):
    url: str | None = None


class _Part(msgspec.Struct, frozen=True):
    """Of a message's content: whichever of these fields is there is what the engine reads, whatever `type` says."""

    type: str | None = None
    image_url: str | _Url | None = None
    audio_url: str | _Url | None = None
    video_url: str | _Url | None = None
    image_embeds: msgspec.Raw = _ABSENT
    audio_embeds: msgspec.Raw = _ABSENT
    video_embeds: msgspec.Raw = _ABSENT
    prompt_embeds: msgspec.Raw = _ABSENT


class _Message(msgspec.Struct, frozen=True):
    content: str | list[_Part | str | None] | None = None


_MESSAGES: Final = msgspec.json.Decoder(list[_Message])
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_IDS: Final = msgspec.json.Decoder(list[int])


def check(fields: Fields, bounds: Bounds) -> None:
    """Of any request; Rejected names the field, the bound and the fix."""
    _check_amounts(fields, bounds)
    if fields.messages and fields.messages != _NULL:
        _check_messages(fields.messages, bounds)
    if fields.prompt_embeds and fields.prompt_embeds != _NULL and bounds.prompt_embeds == "Refuse":
        raise _no_embeds("prompt_embeds")
    if fields.priority:
        raise Rejected(OUT_OF_BOUNDS, "`priority` is that of the API key here; leave it out.", param="priority")
    rare = fields.kv_transfer_params or fields.ec_transfer_params or fields.vllm_xargs or fields.logprob_token_ids
    if rare or fields.chat_template or fields.chat_template_kwargs or fields.mm_processor_kwargs or fields.media_io_kwargs:
        _check_rare(fields, bounds)


def check_documents(body: bytes, bounds: Bounds) -> None:
    """Of a request to rerank or score, whose texts stand in many places: look through all of it."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(INVALID_BODY, f"The body is not JSON that can be read: {error}.") from None
    for value in _objects(found):
        for name in _URLS:
            url = value.get(name)
            _check_url(name, url.get("url") if isinstance(url, dict) else url, bounds)
        if bounds.prompt_embeds == "Refuse" and (value.get("type") in _EMBEDS or not value.keys().isdisjoint(_EMBEDS)):
            raise _no_embeds("body")


def unsaid_tokens(fields: Fields, most: int) -> bool:
    """Whether a body has to be given max_tokens, lest an engine takes more than this."""
    if fields.max_tokens is not None or fields.max_completion_tokens is not None:
        return False
    return bool(fields.messages) or (bool(fields.prompt) and most < USUAL_COMPLETION)


def _check_amounts(fields: Fields, bounds: Bounds) -> None:
    if (value := fields.n) is not None and not 1 <= value <= bounds.max_choices:
        raise _outside("n", 1, bounds.max_choices, "maxChoices")
    if (value := fields.best_of) is not None and not 1 <= value <= bounds.max_choices:
        raise _outside("best_of", 1, bounds.max_choices, "maxChoices")
    most = bounds.max_tokens or _MOST_TOKENS
    if (value := fields.max_tokens) is not None and not 0 <= value <= most:
        raise _outside("max_tokens", 0, most, "maxTokens")
    if (value := fields.max_completion_tokens) is not None and not 0 <= value <= most:
        raise _outside("max_completion_tokens", 0, most, "maxTokens")
    # Below zero, an engine would send a logprob for each word that the model knows.
    most = bounds.max_logprobs
    if (value := fields.logprobs) is not None and value.__class__ is int and not 0 <= value <= most:
        raise _outside("logprobs", 0, most, "maxLogprobs")
    if (value := fields.top_logprobs) is not None and not 0 <= value <= most:
        raise _outside("top_logprobs", 0, most, "maxLogprobs")
    if (value := fields.prompt_logprobs) is not None and not 0 <= value <= most:
        raise _outside("prompt_logprobs", 0, most, "maxLogprobs")


def _check_messages(messages: msgspec.Raw, bounds: Bounds) -> None:
    try:
        found = _MESSAGES.decode(messages)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(INVALID_BODY, f"`messages` is not what this API takes: {error}.", param="messages") from None
    for number, message in enumerate(found):
        content = message.content
        if content.__class__ is list:
            for index, part in enumerate(content):
                if isinstance(part, _Part):
                    _check_part(part, f"messages[{number}].content[{index}]", bounds)


def _check_part(part: _Part, where: str, bounds: Bounds) -> None:
    for name, url in zip(_URLS, (part.image_url, part.audio_url, part.video_url), strict=True):
        _check_url(f"{where}.{name}", url.url if isinstance(url, _Url) else url, bounds)
    embeds = part.image_embeds or part.audio_embeds or part.video_embeds or part.prompt_embeds
    if (embeds or part.type in _EMBEDS) and bounds.prompt_embeds == "Refuse":
        raise _no_embeds(where)


def _check_url(where: str, url: object, bounds: Bounds) -> None:
    if not isinstance(url, str):  # an engine takes nothing else for an address
        return
    scheme = url[:8].lower()
    if scheme.startswith("data:"):
        return
    if not scheme.startswith(("http://", "https://")):
        raise Rejected(OUT_OF_BOUNDS, f"`{where}` is no URL that is taken here; send the media as a data: URL.", param=where)
    if bounds.media_urls == "Refuse":
        message = f"`{where}` is an address, and engines here fetch nothing; send the media as a data: URL"
        raise Rejected(OUT_OF_BOUNDS, f"{message} (or have spec.router.bounds.mediaUrls set to Allow).", param=where)


def _check_rare(fields: Fields, bounds: Bounds) -> None:
    for name, why in _REFUSED.items():
        if (raw := getattr(fields, name)) and raw != _NULL:
            raise Rejected(OUT_OF_BOUNDS, f"`{name}` is not taken here: {why}. Leave it out.", param=name)
    for name, inside in _REFUSED_INSIDE.items():
        if (raw := getattr(fields, name)) and raw != _NULL and (found := inside & _keys(name, raw)):
            where = f"{name}.{min(found)}"
            raise Rejected(OUT_OF_BOUNDS, f"`{where}` is not taken here; leave it out.", param=where)
    if fields.logprob_token_ids and fields.logprob_token_ids != _NULL:
        name = "logprob_token_ids"
        if _length(name, fields.logprob_token_ids) > bounds.max_logprobs:
            raise _outside(f"len({name})", 0, bounds.max_logprobs, "maxLogprobs", param=name)


def _keys(name: str, raw: msgspec.Raw) -> frozenset[str]:
    try:
        return frozenset(_OBJECT.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected(INVALID_BODY, f"`{name}` is not an object: {error}.", param=name) from None


def _length(name: str, raw: msgspec.Raw) -> int:
    try:
        return len(_IDS.decode(raw))
    except msgspec.DecodeError as error:
        raise Rejected(INVALID_BODY, f"`{name}` is not a list of token ids: {error}.", param=name) from None


def _objects(found: object) -> Iterator[dict[str, object]]:
    stack = [found]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield value
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)


def _outside(name: str, low: int, high: int, setting: str, *, param: str | None = None) -> Rejected:
    message = f"`{name}` must be {low} to {high} here (spec.router.bounds.{setting}); send a value within that."
    return Rejected(OUT_OF_BOUNDS, message, param=param or name)


def _no_embeds(where: str) -> Rejected:
    message = f"`{where}` has embeddings, which are not taken here; send text, or media as data: URLs"
    return Rejected(OUT_OF_BOUNDS, f"{message} (or have spec.router.bounds.promptEmbeds set to Allow).", param=where)
