"""What the router reads of a request's body, and how it changes one. The rest of it is nobody's business but the engine's.

Values that only an engine understands stay raw: they are neither decoded nor copied. `rewrite` changes top-level fields and
passes all others on byte by byte.
"""

from typing import Final

import msgspec

from tokenfleet.router.rejections import INVALID_BODY, MODEL_MISSING, Rejected

ABSENT: Final = msgspec.Raw(b"")


class StreamOptions(msgspec.Struct, frozen=True):
    """Of a streamed answer."""

    include_usage: bool | None = None


class Fields(msgspec.Struct, frozen=True):
    """Of a body; raw ones are empty where they are absent."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    best_of: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | int | None = None
    top_logprobs: int | None = None
    prompt_logprobs: int | None = None
    messages: msgspec.Raw = ABSENT
    prompt: msgspec.Raw = ABSENT
    input: msgspec.Raw = ABSENT
    prompt_embeds: msgspec.Raw = ABSENT
    priority: int | None = None
    logprob_token_ids: msgspec.Raw = ABSENT
    kv_transfer_params: msgspec.Raw = ABSENT
    ec_transfer_params: msgspec.Raw = ABSENT
    vllm_xargs: msgspec.Raw = ABSENT
    chat_template: msgspec.Raw = ABSENT
    chat_template_kwargs: msgspec.Raw = ABSENT
    mm_processor_kwargs: msgspec.Raw = ABSENT
    media_io_kwargs: msgspec.Raw = ABSENT


_DECODER: Final = msgspec.json.Decoder(Fields)
_OPEN: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(body: bytes) -> Fields:
    """What the router needs to know of a body."""
    if not body:
        raise Rejected(INVALID_BODY, "The request has no body; send a JSON object.")
    try:
        fields = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(INVALID_BODY, f"The body is not JSON that can be read: {error}.") from None
    if not fields.model:
        raise Rejected(MODEL_MISSING, "`model` is empty; name one of GET /v1/models.", param="model")
    return fields


def rewrite(body: bytes, **changes: object) -> bytes:
    """The body with these top-level fields set; all others keep their bytes."""
    return msgspec.json.encode(_OPEN.decode(body) | {name: _raw(value) for name, value in changes.items()})


def _raw(value: object) -> msgspec.Raw:
    return value if isinstance(value, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(value))


def _invalid(message: str) -> Rejected:
    if "missing required field `model`" in message:
        return Rejected(MODEL_MISSING, "The body has no `model`; name one of GET /v1/models.", param="model")
    if message.endswith("`$.model`"):
        return Rejected(MODEL_MISSING, f"`model` is not a string: {message}.", param="model")
    path = message.rpartition(" - at `$.")[2] if " - at `$." in message else ""
    return Rejected(INVALID_BODY, f"The body is not what this API takes: {message}.", param=path.rstrip("`") or None)
