"""Mounts that are left below a directory of ours: builders of images leave theirs behind."""

import subprocess
from pathlib import Path

from e2e.cluster import packages


def below(directory: Path, mountinfo: str | None = None) -> list[Path]:
    """Mount points in the directory, deepest first."""
    if mountinfo is None:
        mountinfo = Path("/proc/self/mountinfo").read_text()
    places = [Path(_unescape(line.split()[4])) for line in mountinfo.splitlines()]
    found = [place for place in places if place.is_relative_to(directory)]
    return sorted(found, key=lambda place: len(place.parts), reverse=True)


def remove_below(directory: Path) -> None:
    """Unmount them; one that is in use is somebody's work in progress, and stays."""
    for place in below(directory):
        subprocess.run([packages.program("umount"), "-n", str(place)], capture_output=True, check=False)


def _unescape(text: str) -> str:
    """The kernel writes space, tab, newline and backslash as three octal digits."""
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text
