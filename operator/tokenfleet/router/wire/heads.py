"""The grammar of an HTTP/1.1 head, for both sides: one regular expression that a head matches whole, or not at all.

llhttp forgives some of what smuggling is made of, and calls back once a header. This grammar (RFC 9112, with nothing
obsolete: no folding, no bare LF or CR, no control characters, origin-form targets alone, no header twice that may stand
once) is stricter and runs in C in one go. All quantifiers are possessive, so matching is linear. What the router reads comes
as groups; what it drops goes in a second go; no code runs for each line. Framing of bodies: see framing.py.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Final

END: Final = b"\r\n\r\n"
MAX_FIELDS: Final = 100
"""Header lines of a request."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]*+"
"""Of any value."""
NUMBER: Final = rb"[0-9]{1,15}+"
HOST: Final = rb"(?:[A-Za-z0-9._~%!$&'()*+;=\-]++|\[[0-9A-Fa-f:.%]++\])(?::[0-9]{0,5}+)?+"


def grammar(
    first: bytes, once: Mapping[bytes, bytes], *, often: Iterable[bytes] = (), most: int | None = None
) -> re.Pattern[bytes]:
    """Of a whole head. first: of its first line. once: what the value must be of each header that may stand once, by its name
    in lower case. often: headers to be read that may stand more than once. most: header lines.

    Groups: those of `first`, the header lines behind the LF of the first line, and the values of the named headers by their
    alphabet: one of `once` has one group, one of `often` two, the last value where there is a second one, and the first. White
    space stands before no value, but may stand behind one that is TEXT.

    Where a name of `once` stands a second time, or has another value, its line matches no further than to the colon. Nothing
    matches a colon there, so all of it fails: such a line cannot pass for just another header.
    """
    group = re.compile(first).groups + 1
    lines = []
    for name, value in sorted({**once, **dict.fromkeys(often, b"")}.items()):
        if value:
            group += 1
            rest = rb"(?(%d)|%b)" % (group, _value(value))
        else:
            group += 2
            rest = rb"(?(%d)%b|%b)" % (group, _value(TEXT), _value(TEXT))
        lines.append((name, b"(?=:)" + rest))
    line = rb"(?:%b)" % b"|".join((*_alternatives(lines), rb"%b:%b\r\n" % (_TOKEN, TEXT)))
    many = b"*+" if most is None else b"{0,%d}+" % most
    return re.compile(rb"%b\r(\n%b%b)\r\n" % (first, line, many))


def _value(pattern: bytes) -> bytes:
    """A line from its colon on, with its value as a group; or nothing of it."""
    return rb"(?::[\t ]*+(%b)[\t ]*+\r\n)?+" % pattern


def dropper(names: Iterable[bytes], *, prefixes: Iterable[bytes] = ()) -> Callable[[bytes], bytes]:
    """A function from a matched head's lines, as `grammar` gives them, to those whose names are not, and do not begin with, one
    of these (in lower case). Some servers take X_Y for X-Y, so both go."""
    either = [(name.replace(b"-", b"[-_]"), b":") for name in names]
    either += [(prefix.replace(b"-", b"[-_]"), b"[^:]*+:") for prefix in prefixes]
    return partial(re.compile(rb"\n(?:%b)[^\r]*+\r" % b"|".join(_alternatives(either))).sub, b"")


def _alternatives(lines: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Patterns of names, in any case, and of what follows each; by first letters, since most lines' names are none of these."""
    initials: dict[bytes, list[bytes]] = {}
    for name, rest in lines:
        initials.setdefault(name[:1], []).append(rb"(?i:%b)%b" % (name[1:], rest))
    for letter, rests in initials.items():
        yield rb"[%b%b](?:%b)" % (letter, letter.upper(), b"|".join(rests))


REQUEST_LINE: Final = rb"([A-Z]{1,16}+) (/[!\"$-~]*+) HTTP/1\.([01])"
"""Groups: method, target, minor version."""
REQUEST: Final = grammar(REQUEST_LINE, {}, most=MAX_FIELDS)
"""Groups: as above, and the header lines."""

_FIRST: Final = re.compile(rb"([^ ]+) ([^ ]+) HTTP/([0-9])\.([0-9])")


def repeated(head: bytes, names: Collection[bytes]) -> str | None:
    """The first of these names (in lower case) that stands more than once in a head."""
    lines = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    return next((name.decode() for name in names if lines.count(name) > 1), None)


def explain(head: bytes) -> str:
    """Why a request's head, whole or in part, does not match: for the client's eyes."""
    if head[:1] == b"\x16":
        return "This port speaks plain HTTP, and got a TLS handshake. Use http://."
    if b"\x00" in head:
        return "The request's head has a NUL."
    if head.count(b"\n") != head.count(b"\r\n") or head.count(b"\r") > head.count(b"\r\n") + head.endswith(b"\r"):
        return "Lines of a request's head end in CR LF; a bare CR or LF stands in this one."
    first, *lines = head.removesuffix(b"\r").split(b"\r\n")
    if any(line[:1] in (b" ", b"\t") for line in lines):
        return "A header line begins with white space; folded headers are obsolete (RFC 9112, 5.2)."
    match = _FIRST.fullmatch(first)
    if match is None:
        return "The request line is not: METHOD /path HTTP/1.1"
    if not match[2].startswith(b"/"):
        return "The request's target must be a path that begins with /."
    return "A header line is not `Name: value` in the characters that RFC 9110 allows."


def unsupported_version(head: bytes) -> bool:
    """Whether the request line is well-formed but of an HTTP version other than 1.0 and 1.1."""
    match = _FIRST.fullmatch(head.split(b"\r\n", 1)[0])
    return match is not None and (match[3] != b"1" or match[4] not in b"01")


def hopeless(part: bytes) -> bool:
    """Whether no continuation can make this unfinished request head match, so that waiting for the rest is no use."""
    return not b"A" <= part[:1] <= b"Z" or b"\x00" in part or part.count(b"\n") != part.count(b"\r\n")
