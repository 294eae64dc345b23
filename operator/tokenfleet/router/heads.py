"""The grammar of an HTTP/1.1 head, for both sides: one regular expression that a head matches whole, or not at all.

llhttp forgives some of what smuggling is made of, and calls back once a header. This grammar (RFC 9112, with nothing
obsolete: no folding, no bare LF or CR, no control characters, origin-form targets alone) is stricter and runs in C in one
go. All quantifiers are possessive, so matching is linear. Framing of bodies is llhttp's work: see framing.py.
"""

import re
from typing import Final

END: Final = b"\r\n\r\n"

_FIELDS: Final = rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n"
REQUEST: Final = re.compile(rb"([A-Z]{1,16}+) (/[!\"$-~]*+) HTTP/1\.([01])\r\n" + _FIELDS)
"""Groups: method, target, minor version, header lines."""
ANSWER: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*+)?\r\n" + _FIELDS)
"""Groups: minor version, status code, header lines."""
FIELD: Final = re.compile(rb"(([^:]++):[ \t]*+([^\r]*+)\r\n)")
"""Over matched header lines. Groups: the line, name, value (which may end in white space)."""

_LINE: Final = re.compile(rb"([^ ]+) ([^ ]+) HTTP/([0-9])\.([0-9])")


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
    match = _LINE.fullmatch(first)
    if match is None:
        return "The request line is not: METHOD /path HTTP/1.1"
    if not match[2].startswith(b"/"):
        return "The request's target must be a path that begins with /."
    return "A header line is not `Name: value` in the characters that RFC 9110 allows."


def unsupported_version(head: bytes) -> bool:
    """Whether the request line is well-formed but of an HTTP version other than 1.0 and 1.1."""
    match = _LINE.fullmatch(head.split(b"\r\n", 1)[0])
    return match is not None and (match[3] != b"1" or match[4] not in b"01")


def hopeless(part: bytes) -> bool:
    """Whether no continuation can make this unfinished request head match, so that waiting for the rest is no use."""
    return not b"A" <= part[:1] <= b"Z" or b"\x00" in part or part.count(b"\n") != part.count(b"\r\n")
