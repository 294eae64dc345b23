"""Writing what programs read: only where it changes, and whole at once. kube-proxy ends when its file is but touched."""

import os
from pathlib import Path


def write(path: Path, content: str, *, mode: int = 0o644) -> Path:
    """Have the file with this content; returns its path."""
    if path.is_file() and path.read_text() == content:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(content)
    scratch.rename(path)
    return path
