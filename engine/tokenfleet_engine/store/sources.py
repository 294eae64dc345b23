"""What to fetch, as the command line gives it: a URL, and behind the last `@` a revision.

Knows how the URLs of each store look, and which revisions name the same bytes for ever. Asks nobody.
"""

import re
from dataclasses import dataclass
from typing import Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure

SCHEMES: Final = ("hf", "s3", "gs")
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Source:
    """A model in a store: hf:// is an organisation and a name, s3:// and gs:// are a bucket and a prefix."""

    scheme: str
    place: str
    path: str
    revision: str | None
    given: str
    """The URL as it was written, which is what its place in the cache is named after."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.place}/{self.path}".rstrip("/")

    @property
    def pinned(self) -> bool:
        """Whether the revision names the same bytes for ever. A branch or a tag does not."""
        return self.revision is not None and (COMMIT if self.scheme == "hf" else DIGEST).fullmatch(self.revision) is not None

    def __str__(self) -> str:
        return self.url


def parse_source(text: str) -> Source:
    """Raises EngineFailure with EngineConfigInvalid."""
    url, at, revision = text.rpartition("@") if "@" in text else (text, "", "")
    scheme, separator, rest = url.partition("://")
    if scheme == "pvc" and separator:
        raise _invalid(f"{url} is a volume that the pod mounts; there is nothing to fetch.")
    if scheme not in SCHEMES or not separator:
        raise _invalid(f"{text!r} is no source: it begins with one of {', '.join(f'{each}://' for each in SCHEMES)}.")
    if at and not revision:
        raise _invalid(f"{text} ends with '@': a revision belongs behind it, or leave it out.")
    place, _, path = rest.strip("/").partition("/")
    if scheme == "hf" and (not place or not path or "/" in path):
        raise _invalid(f"{url} is no model of Hugging Face: it has the form hf://ORGANISATION/NAME.")
    if not place:
        raise _invalid(f"{url} names no bucket: it has the form {scheme}://BUCKET/PREFIX.")
    if scheme != "hf" and revision and not DIGEST.fullmatch(revision):
        raise _invalid(f"{revision} is no revision of {url}: that is sha256:<64 hexadecimal digits>, as fetch prints it.")
    return Source(scheme=scheme, place=place, path=path, revision=revision or None, given=url)


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_ENGINE_CONFIG_INVALID, message)
