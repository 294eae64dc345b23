"""How words of others (the scheduler, the kubelet, a log) come into our messages: whole sentences, of bounded length."""

_QUOTED = 1000


def sentence(words: str) -> str:
    """With a full stop, so that another sentence can follow."""
    words = words.strip()
    return words if words.endswith((".", "!", "?", "…")) else f"{words}."


def tail(text: str) -> str:
    """The end of a text that may be long, cut at a line where there is one."""
    if len(text) <= _QUOTED:
        return text
    cut = text[-_QUOTED:]
    return "…" + (cut.partition("\n")[2] or cut)
