"""Memory and weights as people write them, in powers of two. What is fetched is told in powers of ten (store/progress.py)."""


def readable(count: float) -> str:
    """Bytes: 14.9 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
