"""What goes into each image, read from its Dockerfile, and the tag that follows from it.

The COPY lines name the inputs, so the tag cannot forget one: an image whose tag is there is the image. Only what git would
keep counts (no byte code), so every clone of a commit comes to the same tag.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.cluster.errors import ClusterError

ROOT: Final = Path(__file__).resolve().parents[2]
_COPY: Final = re.compile(r"^COPY\s+(?P<words>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A shipped Dockerfile, built from the repository's root."""

    name: str
    dockerfile: str
    takes: str
    """How long a first build takes, for the person who waits."""
    gigabytes: int
    """Disk that a first build needs at its peak, with the copies in the registry and on the node."""

    def sources(self) -> Iterator[Path]:
        text = (ROOT / self.dockerfile).read_text().replace("\\\n", " ")
        for match in _COPY.finditer(text):
            words = [word for word in match["words"].split() if not word.startswith("--")]
            for name in words[:-1]:
                yield from _files(ROOT / name)

    def tag(self, *, base: str) -> str:
        digest = hashlib.sha256(base.encode())
        for path in sorted({ROOT / self.dockerfile, ROOT / ".dockerignore", *self.sources()}):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(ROOT)} {content}\n".encode())
        return digest.hexdigest()[:16]


OPERATOR: Final = Recipe(name="operator", dockerfile="operator/Dockerfile", takes="half a minute", gigabytes=2)
ENGINE_CPU: Final = Recipe(name="engine-cpu", dockerfile="engine/Dockerfile.cpu", takes="5 minutes", gigabytes=24)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    else:
        raise ClusterError(f"a Dockerfile copies {path}, and there is no such file.")
