"""The flags behind `--`, read as vLLM reads them: underscores, abbreviations, short names, `--json.key value`, `-O3`.

With the image's list of flags an unknown, ambiguous or incomplete one is refused here, in milliseconds and with the nearest
name that there is. So is each that Tokenfleet's own parts rely on, however it is spelt. Without the list (an image of one's
own) only those are looked for, and the rest is left to vLLM.
"""

import argparse
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch.flags import Known, Option

OWN_FLAGS: Final = {
    "--api-server-count": "admission counts the requests of one server process",
    "--config": "flags in a file are seen by nobody; extraArgs holds them",
    "--grpc": "routers speak HTTP to engines",
    "--headless": "the engine serves its own requests",
    "--help": "an engine that prints its flags serves nobody",
    "--host": "the pod's port is the only way in",
    "--model": "spec.model.source says it",
    "--port": "the Service, the probes and the routers rely on it",
    "--root-path": "the routers rely on the paths as they are",
    "--served-model-name": "spec.model.servedName says it",
    "--shutdown-timeout": "spec.drain.timeoutSeconds says how long running requests may take",
    "--ssl-certfile": "routers and probes speak plain HTTP to engines",
    "--ssl-keyfile": "routers and probes speak plain HTTP to engines",
    "--uds": "the pod's port is the only way in",
}

_READ: Final = (
    Option(("--api-server-count", "-asc")),
    Option(("--help", "-h"), 0),
    *(Option((name,), 0) for name in ("--grpc", "--headless")),
    *(Option((name,)) for name in OWN_FLAGS if name not in ("--api-server-count", "--grpc", "--headless", "--help")),
    Option(("--block-size",)),
    Option(("--dtype",)),
    Option(("--hf-overrides",)),
    Option(("--kv-cache-dtype",)),
    Option(("--kv-cache-memory-bytes",)),
    Option(("--load-format",)),
    Option(("--lora-modules",), "+"),
    Option(("--max-lora-rank",)),
    Option(("--max-loras",)),
    Option(("--max-model-len",)),
    Option(("--model-impl",)),
    Option(("--pipeline-parallel-size", "-pp")),
    Option(("--spec-method",)),
    Option(("--spec-model",)),
    Option(("--spec-tokens",)),
    Option(("--speculative-config", "-sc")),
    Option(("--tensor-parallel-size", "-tp")),
    Option(("--tokenizer",)),
    Option(("--disable-access-log-for-endpoints",)),
    *(Option((f"--{name}", f"--no-{name}"), 0) for name in (
        "enable-lora", "enable-sleep-mode", "enforce-eager", "skip-tokenizer-init", "trust-remote-code",
    )),
)  # fmt: skip
"""What Tokenfleet looks at, for where there is no list."""

_BEFORE_THE_DOT: Final = re.compile(r"(?<=--)[^\.]*")
_NUMBER: Final = re.compile(r"^-\d+$|^-\d*\.\d+$")


@dataclass(frozen=True, slots=True)
class UserFlags:
    """`argv` is what the user wrote; the rest is what it means."""

    argv: tuple[str, ...] = ()
    _values: Mapping[str, str] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Whether the option is there under any of its names; `name` is the main one."""
        return name in self._values

    def value(self, name: str) -> str | None:
        """The last one given, which is the one that holds."""
        return self._values.get(name)


def read_flags(argv: Sequence[str], *, known: Known | None) -> UserFlags:
    """Raises EngineFailure with EngineConfigInvalid."""
    parser = _Parser(prog="vLLM", add_help=False, allow_abbrev=known is not None)
    options = known.options if known else _READ
    for option in options:
        parser.add_argument(*option.names, dest=option.name, nargs=option.values, action=_Keep, default=argparse.SUPPRESS)
    words = list(_as_vllm(argv))
    try:
        found, unknown = parser.parse_known_args(words)
    except _Unreadable as error:
        engine = f"vLLM {known.version}" if known else "vLLM"
        raise _invalid(f"{engine} refuses the flags: {error}.") from None
    values = vars(found)
    for name in values.keys() & OWN_FLAGS.keys():
        raise _invalid(f"{name} cannot be set in extraArgs: {OWN_FLAGS[name]}. Remove it.")
    if known and unknown:
        raise _invalid(_unknown(unknown[0], known))
    return UserFlags(argv=tuple(argv), _values=values)


def _unknown(word: str, known: Known) -> str:
    name = word.partition("=")[0]
    if not name.startswith("-"):
        return f"{word!r} in extraArgs belongs to no flag: vLLM's flags begin with -- and take their value behind them."
    names = [each for option in known.options for each in option.names]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else "`vllm serve --help=all` lists them."
    return f"vLLM {known.version} has no flag {name}; {hint} Change extraArgs."


def _as_vllm(argv: Iterable[str]) -> Iterable[str]:
    """As FlexibleArgumentParser changes them before argparse sees them (vllm/utils/argparse_utils.py)."""
    for word in argv:
        if word.startswith("-O") and word != "-O":
            yield f"--optimization-level={word[2:].removeprefix('=')}"
        elif word == "-O":
            yield "--optimization-level"
        elif word.startswith("-") and not _NUMBER.match(word):
            name, equals, value = word.partition("=")
            name = _BEFORE_THE_DOT.sub(lambda found: found[0].replace("_", "-"), name, count=1)
            yield name.partition(".")[0] + equals + value
        else:
            yield word


class _Keep(argparse.Action):
    """Keep the last value as it stands; what the value may be is vLLM's to say."""

    def __call__(self, _: object, found: argparse.Namespace, values: object, __: str | None = None) -> None:
        words = values if isinstance(values, list) else [] if values is None else [values]
        setattr(found, self.dest, " ".join(map(str, words)))


class _Unreadable(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Unreadable(message)


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_ENGINE_CONFIG_INVALID, message)
