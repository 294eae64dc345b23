"""The simulated model's language: a tokenizer without a vocabulary, and a writer whose next token follows from all before.

A token is at most five bytes of UTF-8 that are no white space, with the one white space before them; so white space always
begins a token, and English has about four characters a token. Every word that the writer adds begins with a space and is one
token. Therefore the tokens of `prompt + text so far` are those of the prompt and those of the text, and whoever is asked to go
on there, this replica or another, writes the same as if nobody had stopped. A token's number is its bytes (numbers below 256
are special), so that text and tokens turn into each other without a table. The writer's memory is a CRC of all bytes so far.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

PIECE: Final = re.compile(rb"[\x00-\x20]?[^\x00-\x20]{1,5}|[\x00-\x20]")
BEGIN: Final = b"<|begin|>"
END: Final = b"<|end|>"
SPECIAL: Final = (BEGIN, END, *(b"<|%s|>" % role for role in (b"system", b"user", b"assistant", b"tool", b"developer")))
END_TOKEN: Final = SPECIAL.index(END)
ROLES: Final = {piece[2:-2].decode(): piece for piece in SPECIAL[2:]}
_SPECIAL_NUMBERS: Final = {piece: number for number, piece in enumerate(SPECIAL)}

_WORDS: Final = """
a able about above act after again age ago air all along also among an and any apple are area arm art as ask at away
back bank base be bear beat been began best big bird black blue board boat body bone book both bow box boy brown build
bus but buy by call came can car care case catch cause chair chart check child city class clay clear climb clock cloud
coast coat cold color come cook cool copy corn cost could count cover cross crop cry cut dance dark day dead deal deep
did do dog done door down draw dream dress drive drop dry each early earth east easy eat edge egg eight else end enemy
enter equal even event ever every exact eye face fact fair fall far farm fast fat fear feed feel feet fell felt few
field fig fight fill find fine fire first fish fit five flat floor flow fly food foot for force form forty found four
free fresh from front fruit full fun game gas gave get girl give glad glass go gold gone good got grand grass great
green grew group grow guess had hair half hand happy hard has hat have he head hear heart heat heavy held help her
here high hill him his hit hold hole home hope horse hot hour house how huge human hunt ice idea if in inch iron it
jump just keep kind king knee know lady lake land large last late laugh lead leaf learn left less
"""
WORDS: Final = tuple(f" {word}".encode() for word in _WORDS.split())
_MIX_WORD: Final = 2654435761
_MIX_END: Final = 2246822519
_LOW: Final = 0xFFFFFFFF


def split(text: str) -> list[bytes]:
    return PIECE.findall(text.encode("utf-8", "surrogatepass"))


def to_numbers(pieces: Iterable[bytes]) -> list[int]:
    """Whole numbers below 2^49, which JSON keeps."""
    return [
        number if (number := _SPECIAL_NUMBERS.get(piece)) is not None else int.from_bytes(b"\x01" + piece, "big")
        for piece in pieces
    ]


def from_numbers(numbers: Iterable[int]) -> list[bytes]:
    """Any number is somebody's token, as it is for a real model: what is not ours stands for its decimal digits."""
    return [_from_number(number) for number in numbers]


def _from_number(number: int) -> bytes:
    if 0 <= number < len(SPECIAL):
        return SPECIAL[number]
    raw = number.to_bytes((number.bit_length() + 7) // 8 or 1, "big") if number >= 0 else b""
    return raw[1:] if len(raw) > 1 and raw[0] == 1 else b" %d" % number


def join(pieces: Iterable[bytes]) -> str:
    return b"".join(pieces).decode("utf-8", "replace")


def conversation(messages: Iterable[tuple[str, str]], *, answer: bool, open_ended: bool) -> list[bytes]:
    """The tokens of a chat of (role, text). `answer` asks for an assistant's message, `open_ended` continues the last one."""
    pieces = [BEGIN]
    for role, content in messages:
        pieces += [ROLES.get(role, ROLES["user"]), *split(content), END]
    if open_ended:
        pieces.pop()
    elif answer:
        pieces.append(ROLES["assistant"])
    return pieces


@dataclass(slots=True)
class Writer:
    """Goes on with a text, one token at a time. An answer ends by itself after `mean_tokens` on the average; 0: never."""

    state: int
    mean_tokens: int = 0

    @classmethod
    def begin(cls, pieces: Sequence[bytes], *, salt: bytes, mean_tokens: int = 0) -> "Writer":
        """`salt` tells models, adapters and choices apart: with another one, the same prompt goes on otherwise."""
        return cls(state=crc32(b"".join(pieces), crc32(salt)), mean_tokens=mean_tokens)

    def ends(self) -> bool:
        """Whether the model would end its answer here."""
        return self.mean_tokens > 0 and ((self.state * _MIX_END) & _LOW) * self.mean_tokens <= _LOW

    def write(self) -> bytes:
        word = WORDS[((self.state * _MIX_WORD) & _LOW) >> 24]
        self.state = crc32(word, self.state)
        return word


def block_hashes(pieces: Sequence[bytes], *, salt: bytes, block_size: int) -> list[int]:
    """Of each full block of the prompt, with all before it: what the prefix cache is asked for."""
    state, hashes = crc32(salt), []
    for end in range(block_size, len(pieces) + 1, block_size):
        state = crc32(b"".join(pieces[end - block_size : end]), state)
        hashes.append(state)
    return hashes
