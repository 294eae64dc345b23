"""What goes into each image, read from its Dockerfile, and the tag that follows from it.

The COPY lines name the inputs, so the tag cannot forget one: an image whose tag is there is the image. Only what git would
keep counts (no byte code), so every clone of a commit comes to the same tag.
"""

import hashlib
import os
import re
import shutil
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

    def tag(self, *, base: str, root: Path = ROOT) -> str:
        digest = hashlib.sha256(base.encode())
        for path in self._inputs(root):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(root)} {content}\n".encode())
        return digest.hexdigest()[:16]

    def snapshot(self, directory: Path) -> None:
        """Copy the inputs, so that somebody who edits meanwhile does not get new code under an old tag.

        All with the same times: buildah keeps a layer only for files that are the same in every respect.
        """
        for path in self._inputs(ROOT):
            copy = directory / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        for path in directory.rglob("*"):
            os.utime(path, (0, 0))

    def _inputs(self, root: Path) -> list[Path]:
        dockerfile = root / self.dockerfile
        found = {dockerfile}
        for match in _COPY.finditer(dockerfile.read_text().replace("\\\n", " ")):
            words = [word for word in match["words"].split() if not word.startswith("--")]
            for name in words[:-1]:
                found.update(_files(root / name))
        return sorted(found)


OPERATOR: Final = Recipe(name="operator", dockerfile="operator/Dockerfile", takes="half a minute", gigabytes=2)
ENGINE_CPU: Final = Recipe(name="engine-cpu", dockerfile="engine/Dockerfile.cpu", takes="5 minutes", gigabytes=20)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    else:
        raise ClusterError(f"a Dockerfile copies {path}, and there is no such file.")
