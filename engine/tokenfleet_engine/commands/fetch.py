"""`tokenfleet-engine fetch`: bring models from Hugging Face, S3 or Google Cloud Storage into a cache. For init containers."""

import argparse
import asyncio
import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tokenfleet import contract
from tokenfleet_engine.commands import arguments
from tokenfleet_engine.say import say
from tokenfleet_engine.store.cache import Cache
from tokenfleet_engine.store.fetching import Fetch, Settings
from tokenfleet_engine.store.opening import open_store
from tokenfleet_engine.store.sources import parse_source

_DESCRIPTION: Final = """\
Bring models into a cache, each as a complete directory that vLLM can open: all its files are there and verified, or there is
no such directory. Run it again after any break, and it goes on from there. Several pods may share a cache: one fetches, the
others wait.

Sources:
  hf://ORGANISATION/NAME[@REVISION]   Hugging Face; a commit, a branch or a tag (default: main)
  s3://BUCKET/PREFIX[@REVISION]       S3; sha256:<64 hexadecimal digits> over the listing, as fetch prints it
  gs://BUCKET/PREFIX[@REVISION]       Google Cloud Storage; likewise
"""
_EPILOG: Final = """\
Credentials come from the environment, and none are needed for what is public:
  hf://  HF_TOKEN, HF_ENDPOINT (another server with the same API)
  s3://  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL (another S3 server)
  gs://  GOOGLE_CREDENTIALS (the JSON of a service account's key), STORAGE_EMULATOR_HOST (another server)

Examples:
  tokenfleet-engine fetch --cache ~/models hf://Qwen/Qwen3-0.6B
  tokenfleet-engine fetch --cache /cache s3://models/llama-3-8b hf://org/draft@v1.2
"""


_MODEL: Final = "spec.model.revision"
_OTHER: Final = "its own revision"
"""The model comes first; behind it stand a draft and adapters, each with a field for its revision."""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "fetch", help="bring models from Hugging Face, S3 or Google Cloud Storage into a cache",
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="what to fetch, one after the other")
    parser.add_argument(
        "--cache", type=Path, default=Path(contract.CACHE_MOUNT_PATH), metavar="DIR", help="where to (default: %(default)s)"
    )
    parser.add_argument(
        "--all", action="store_true", help="every file, not only what vLLM needs (the same weights in other formats, images, …)"
    )
    parser.add_argument(
        "--streams", type=_between(1, 64), default=8, metavar="N", help="ranges in flight at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--piece", type=_between(1, 1024), default=32, metavar="MIB", help="MiB of a range (default: %(default)s)"
    )
    parser.add_argument(
        "--patience", type=arguments.whole_seconds, default=300, metavar="SECONDS",
        help="give up after so long without any progress (default: %(default)s)",
    )  # fmt: skip
    arguments.add_termination_log(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace, _: Any) -> int:
    sources = [parse_source(text) for text in given.sources]
    cache = Cache(Path(os.path.abspath(given.cache.expanduser())))  # noqa: PTH100  (resolve would follow links)
    settings = Settings(
        everything=given.all, streams=given.streams, piece_bytes=given.piece << 20, patience_seconds=given.patience
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    for source, field in zip(sources, itertools.chain([_MODEL], itertools.repeat(_OTHER)), strict=False):
        fetch = Fetch(source=source, cache=cache, open_store=open_store, settings=settings, field=field)
        asyncio.run(fetch.run())
    return 0


def _end(number: int, _: Any) -> None:
    """At once: what is on the disk is good at any moment, and waiting for threads that read or write would only take time."""
    say(f"{signal.Signals(number).name}: ending; what has arrived stays for the next start")
    os._exit(128 + number)


def _between(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    return number
