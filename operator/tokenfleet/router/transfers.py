"""Both ends of a prefill, in JSON: what a prefill replica is asked, and what of its answer a decode replica may be told. Pure.

vLLM takes transfer parameters on trust: wrong ones end the engine, or make it wait for ever. So they are checked here, field by
field. And it transfers one prompt for one choice: of several, each would get the first one's KV blocks, so those are not asked.
"""

from typing import Annotated, Final

import msgspec

from tokenfleet.router import routes
from tokenfleet.router.jobs import Job
from tokenfleet.router.models import Pool

SHORTEST_BYTES: Final = 256
"""Of a prompt. One that is shorter is read within the decode replica's next step, sooner than it could be fetched."""

_START: Final = msgspec.Raw(
    b'{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,'
    b'"remote_host":null,"remote_port":null}'
)
_ONE: Final = msgspec.Raw(b"1")
_FALSE: Final = msgspec.Raw(b"false")
_NOTHING: Final = (b"null", b"false")
_DROPPED: Final = ("best_of", "echo", "logprobs", "min_tokens", "n", "stream_options", "top_logprobs")
"""What shapes an answer that nobody reads, or is refused together with one token and no stream."""
_PATHS: Final = (routes.CHAT, routes.COMPLETIONS)
_OPEN: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_Words = Annotated[str, msgspec.Meta(min_length=1)]
_Blocks = Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(min_length=1)]


class _Transfer(msgspec.Struct, frozen=True):
    """What a decode replica cannot do without. More may come along."""

    do_remote_prefill: bool
    remote_engine_id: _Words
    remote_request_id: _Words
    remote_host: _Words
    remote_port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    remote_block_ids: Annotated[list[_Blocks], msgspec.Meta(min_length=1)]
    tp_size: Annotated[int, msgspec.Meta(ge=1)]


class _Prefilled(msgspec.Struct, frozen=True):
    """A prefill replica's answer."""

    kv_transfer_params: msgspec.Raw


_TRANSFER: Final = msgspec.json.Decoder(_Transfer)
_PREFILLED: Final = msgspec.json.Decoder(_Prefilled)


def question(job: Job, pool: Pool) -> bytes | None:
    """The body for the prefill replica; None where the request is to be decoded plainly."""
    if job.request.route.path not in _PATHS or not _is_suited(job):
        return None
    fields = _OPEN.decode(job.body)
    if _is(fields, "use_beam_search") or (_is(fields, "echo") and _is(fields, "logprobs")):
        return None
    for name in _DROPPED:
        fields.pop(name, None)
    if "max_completion_tokens" in fields:
        fields["max_completion_tokens"] = _ONE
    fields["max_tokens"], fields["stream"], fields["kv_transfer_params"] = _ONE, _FALSE, _START
    if pool.served_name != job.fields.model:
        fields["model"] = msgspec.Raw(msgspec.json.encode(pool.served_name))
    return msgspec.json.encode(fields)


def _is_suited(job: Job) -> bool:
    """One prompt that is worth it, and one choice."""
    fields = job.fields
    if (fields.n or 1) > 1 or (fields.best_of or 1) > 1 or fields.prompt_logprobs is not None or len(fields.prompt_embeds):
        return False
    if job.request.route.path == routes.CHAT:
        return len(fields.messages) >= SHORTEST_BYTES
    start = bytes(memoryview(fields.prompt)[:64])
    return len(fields.prompt) >= SHORTEST_BYTES and (start[:1] == b'"' or start[1:].lstrip()[:1].isdigit())


def _is(fields: dict[str, msgspec.Raw], name: str) -> bool:
    return name in fields and bytes(fields[name]) not in _NOTHING


def transfer_params(answer: bytes) -> msgspec.Raw | None:
    """What an answer says, byte by byte; None where a decode replica could not use it."""
    try:
        params = _PREFILLED.decode(answer).kv_transfer_params.copy()
        transfer = _TRANSFER.decode(params)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return params if transfer.do_remote_prefill else None
