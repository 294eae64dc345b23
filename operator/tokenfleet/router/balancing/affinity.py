"""What a request has an affinity to, as 64 bits that all routers agree on; None where there is nothing to keep together.

For PrefixAffinity that is what makes vLLM's prefix cache hit. Its KV cache is kept in blocks of 16 tokens, some 64 bytes of
English each, and a block is found again only where all blocks before it are the same. So a key is made of a prompt's beginning:
of a text's first 4 blocks, since prompts that share them mostly share many more; of a conversation up to the end of its first
user message, since that stays the same while it grows, and tells it from others under the same system prompt.

Works on raw JSON and looks at its first bytes alone, however long it is. Nothing is decoded: where equal values are spelled in
two ways they get two keys, which costs a cache hit and nothing else.
"""

import re
from hashlib import blake2b
from typing import Final

import msgspec

from tokenfleet.router.fields import Fields
from tokenfleet.router.terms import Terms
from tokenfleet.router.wire.request import Request

BLOCK_BYTES: Final = 64
PROMPT_BYTES: Final = 4 * BLOCK_BYTES
MESSAGE_BYTES: Final = 16 * BLOCK_BYTES
"""Of the first user message: enough to tell conversations apart."""
SEARCH_BYTES: Final = 64 * 1024
"""How far into `messages` the first user message is looked for, past the system prompt."""
_USER: Final = b'"user"'
"""In a JSON string quotes are escaped, so this is the value of a role, or a text that ends in an escaped quote and `user`; then
the key is of less than it might be."""
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)'
_FLAT: Final = rb'(?:[^{}"]++|%b)*+' % _STRING
_NESTED: Final = rb'(?:[^{}"]++|%b|\{%b(?:\}|\Z))*+' % (_STRING, _FLAT)
_MEMBERS: Final = re.compile(rb'(?:[^{}"]++|%b|\{%b(?:\}|\Z))*+' % (_STRING, _NESTED), re.DOTALL)
"""What is left of a JSON object, up to its brace or to where the window ends; parts of a content are nested in it twice."""


def of(fields: Fields, request: Request, terms: Terms) -> int | None:
    """Of a request under its model's policy."""
    if terms.policy == "SessionAffinity":
        session = request.header(terms.session_header.lower().encode())
        return _hash(session) if session else None
    if len(fields.messages):
        return of_conversation(fields.messages)
    return of_prompt(fields.prompt)


def of_prompt(prompt: msgspec.Raw) -> int | None:
    """Of a text, a list of token ids, or a list of those. Less than a block is in no cache."""
    beginning = _beginning(prompt, PROMPT_BYTES)
    return _hash(beginning) if len(beginning) >= BLOCK_BYTES else None


def of_conversation(messages: msgspec.Raw) -> int | None:
    """Of a chat's messages: the beginning of the first one, and the first user message."""
    data = _beginning(messages, SEARCH_BYTES)
    user = data.find(_USER)
    if user < 0:
        return _hash(data[:PROMPT_BYTES]) if len(data) >= BLOCK_BYTES else None
    start, behind = max(0, user - MESSAGE_BYTES), user + len(_USER)
    members = _MEMBERS.match(data, behind, behind + MESSAGE_BYTES)
    assert members is not None  # It matches nothing at all, too.
    return _hash(data[: min(PROMPT_BYTES, start)] + data[start : members.end()])


def _beginning(raw: msgspec.Raw, size: int) -> bytes:
    return bytes(memoryview(raw)[:size])


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")
