"""What a request's body asks for, checked as vLLM checks it: one frozen object for completions and chats alike.

Fields that the simulator cannot honour are refused where ignoring them would show in the answer; all others that it does not
know it passes over, as vLLM does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tokenfleet_engine.simulation.refusals import Refused, invalid, malformed, not_simulated

NOT_SIMULATED: Final = (
    "logprobs", "top_logprobs", "prompt_logprobs", "prompt_embeds", "use_beam_search", "structured_outputs", "suffix",
    "truncate_prompt_tokens", "kv_transfer_params", "logit_bias", "allowed_token_ids", "bad_words", "stop_token_ids",
)  # fmt: skip
COMPLETION_TOKENS: Final = 16
"""The default of max_tokens for a completion; a chat's is all that the context leaves."""
GREEDY: Final = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    max_tokens: int | None
    n: int
    stop: tuple[str, ...]
    keep_stop: bool
    ignore_end: bool
    min_tokens: int
    seed: int | None
    stream: bool
    include_usage: bool
    continuous_usage: bool
    echo: bool
    token_ids: bool


def read_parameters(body: Mapping[str, Any], *, chat: bool) -> Parameters:
    for name in NOT_SIMULATED:
        if body.get(name):
            raise not_simulated(name)
    if (body.get("response_format") or {}).get("type", "text") != "text":
        raise not_simulated("response_format")
    max_tokens = _whole(body, "max_tokens", None if chat else COMPLETION_TOKENS)
    if chat:
        max_tokens = _whole(body, "max_completion_tokens", max_tokens)
    options = body.get("stream_options") or {}
    stream = bool(body.get("stream"))
    if options and not stream:
        raise invalid("Stream options can only be defined when `stream=True`.", param="stream_options")
    usage = bool(options.get("include_usage"))
    return Parameters(
        max_tokens=max_tokens,
        n=_count(body),
        stop=_stop(body.get("stop")),
        keep_stop=bool(body.get("include_stop_str_in_output")),
        ignore_end=bool(body.get("ignore_eos")),
        min_tokens=_whole(body, "min_tokens", 0) or 0,
        seed=_whole(body, "seed", None),
        stream=stream,
        include_usage=usage,
        continuous_usage=usage and bool(options.get("continuous_usage_stats")),
        echo=bool(body.get("echo")) and not chat,
        token_ids=bool(body.get("return_token_ids")),
    )


def answer_tokens(parameters: Parameters, *, prompt_tokens: int, context: int) -> int:
    """How many tokens each choice may have, once the prompt is known."""
    if prompt_tokens > context:
        count = context + 1  # vLLM stops counting there
        raise invalid(
            f"This model's maximum context length is {context} tokens. However, your prompt contains at least {count} input "
            "tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt.",
            param="input_tokens", value=count,
        )  # fmt: skip
    room = context - prompt_tokens
    asked = room if parameters.max_tokens is None else min(parameters.max_tokens, room)
    if asked < 1 and not (parameters.echo and asked == 0 and room):
        raise invalid(f"max_tokens must be at least 1, got {asked}.", param="max_tokens", value=asked)
    limit = max(asked, 1)
    if parameters.min_tokens > limit:
        raise invalid(f"min_tokens must be less than or equal to max_tokens={limit}, got {parameters.min_tokens}.")
    return limit


def _count(body: Mapping[str, Any]) -> int:
    """`n`, and what of the sampling vLLM looks at with it."""
    n = _whole(body, "n", 1) or 0
    if n < 1:
        raise invalid(f"n must be at least 1, got {n}.")
    temperature = _number(body, "temperature", 1.0)
    if temperature < 0:
        raise invalid(f"temperature must be non-negative, got {temperature}.", param="temperature", value=temperature)
    top_p = _number(body, "top_p", 1.0)
    if not 0 < top_p <= 1:
        raise invalid(f"top_p must be in (0, 1], got {top_p}.", param="top_p", value=top_p)
    if n > 1 and temperature < GREEDY:
        raise invalid(f"n must be 1 when using greedy sampling, got {n}.")
    return n


def _stop(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | None) or not all(isinstance(each, str) for each in value or ()):
        raise malformed("list_type", "body.stop", "Input should be a valid list", value)
    if value and "" in value:
        raise invalid("stop cannot contain an empty string.")
    return tuple(value or ())


def _whole(body: Mapping[str, Any], name: str, default: int | None) -> int | None:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            message = "Input should be a valid integer, unable to parse string as an integer"
            raise malformed("int_parsing", f"body.{name}", message, value) from None
    raise _wrong_type("int", name, "Input should be a valid integer", value)


def _number(body: Mapping[str, Any], name: str, default: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int | float):
        raise _wrong_type("float", name, "Input should be a valid number", value)
    return float(value)


def _wrong_type(kind: str, name: str, message: str, value: object) -> Refused:
    return malformed(f"{kind}_type", f"body.{name}", message, value)
