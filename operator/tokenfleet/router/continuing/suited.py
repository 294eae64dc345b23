"""Which streams another replica may go on with: those that it would end as the first one would have. Pure.

`unsuited` looks at what is known of every request, when its answer begins, so that nothing is kept in vain; `check` at all of
its body, once the stream is cut. Stop strings need nothing: an engine holds back whatever may be the beginning of one, so
none begins in a text that was passed; only where they are a part of the answer it does not. An engine that goes on past the
model's end of text (`ignore_eos`) does not show where, so what it has written cannot be read off its text; `min_tokens` can.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from tokenfleet.router.continuing.transcript import UNSUITED
from tokenfleet.router.jobs import Job
from tokenfleet.router.models import Pool

OFF: Final = "off"
"""The request's header or the LLMDeployment's spec says so."""

Fields = Mapping[str, msgspec.Raw]

_NOTHING: Final = (b"", b"null", b"false", b'""', b"[]", b"{}")
_NEVER: Final = (
    *("echo", "ignore_eos", "prompt_embeds", "prompt_logprobs", "return_prompt_text", "return_token_ids", "structural_tag"),
    *("structured_outputs", "suffix", "truncate_prompt_tokens", "use_beam_search"),
)
_GUIDED: Final = "guided_"
_FREE_CHOICES: Final = (b"null", b'"auto"', b'"none"')
"""Of tools."""


class Unsuited(Exception):
    """Nobody can go on with this stream; says why, in the metric's word."""


class _Format(msgspec.Struct):
    type: str = "text"


def unsuited(job: Job, pool: Pool) -> str:
    """Why a stream is not worth keeping; empty: it is."""
    fields = job.fields
    if not (pool.continues and job.request.continues):
        return OFF
    if not job.request.route.generates or (fields.n or 1) > 1 or (fields.best_of or 1) > 1:
        return UNSUITED
    if (fields.logprobs is not None and fields.logprobs is not False) or fields.prompt_logprobs is not None:
        return UNSUITED
    return ""


def check(fields: Fields, *, chat: bool) -> None:
    """Raises Unsuited."""
    if any(name.startswith(_GUIDED) or name in _NEVER for name in fields if says(fields, name)):
        raise Unsuited(UNSUITED)
    if says(fields, "response_format") and msgspec.json.decode(fields["response_format"], type=_Format).type != "text":
        raise Unsuited(UNSUITED)
    if says(fields, "stop") and says(fields, "include_stop_str_in_output"):
        raise Unsuited(UNSUITED)
    if chat:
        _check_chat(fields)
    elif fields["prompt"] and bytes(fields["prompt"])[:1] != b'"':
        raise Unsuited(UNSUITED)


def _check_chat(fields: Fields) -> None:
    forced = bytes(fields.get("tool_choice", b"null")) not in _FREE_CHOICES
    hidden = bytes(fields.get("include_reasoning", b"null")) == b"false"
    unopened = bytes(fields.get("add_generation_prompt", b"null")) == b"false" and not says(fields, "continue_final_message")
    if forced or hidden or unopened:
        raise Unsuited(UNSUITED)


def says(fields: Fields, name: str) -> bool:
    """Whether a field is there and asks for anything."""
    return bytes(fields.get(name, b"")) not in _NOTHING
