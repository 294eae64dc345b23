"""How many tokens a request may take, before anything has counted them: what its caller's limit is charged at first.

The rule: four bytes of the body are a token; a token id is one, whatever its digits; an image, a sound or a video that is sent
along is a thousand, whatever its bytes. To that comes the answer: max_tokens, or what is usual where the request does not say,
for each choice of each prompt. The answer's usage settles it all, so the rule need not be exact, only cheap and hard to cheat.
"""

from typing import Final

import msgspec

from tokenfleet.router.fields import Fields

BYTES_A_TOKEN: Final = 4
MEDIA_TOKENS: Final = 1_000
CHAT_ANSWER_TOKENS: Final = 512
"""Of a chat that does not say; engines would go on to the end of the context."""
COMPLETION_ANSWER_TOKENS: Final = 16
"""Of a completion that does not say: the API's own default, which engines keep to."""
_MEDIA_MARKS: Final = (b";base64,", b'"data":"', b'"data": "')
_MEDIA_BYTES: Final = 4 * 1024
"""A shorter piece of data is counted by its bytes, which is less than MEDIA_TOKENS."""
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


def tokens(fields: Fields, length: int, bound: int | None = None) -> int:
    """Of prompt and answer. length: of the body, in bytes. bound: what an answer may have at most."""
    if fields.messages:
        prompt = length // BYTES_A_TOKEN + 1 if length <= _MEDIA_BYTES else _messages(bytes(fields.messages), length)
        return prompt + _answer(fields, CHAT_ANSWER_TOKENS, bound)
    if raw := bytes(fields.prompt):
        return _prompt(raw, length) + _answer(fields, COMPLETION_ANSWER_TOKENS, bound) * _count(raw)
    return _prompt(bytes(fields.input), length)


def _answer(fields: Fields, usual: int, bound: int | None) -> int:
    most = fields.max_completion_tokens
    if most is None:
        most = fields.max_tokens
    if most is None:
        most = usual if bound is None else min(usual, bound)
    if fields.n is None and fields.best_of is None:
        return most
    return most * max(fields.n or 1, fields.best_of or 1)


def _prompt(raw: bytes, length: int) -> int:
    """Texts or token ids; what else the body holds counts as text."""
    if raw[:1] == b"[" and b'"' not in raw:
        return raw.count(b",") + 1 + (length - len(raw)) // BYTES_A_TOKEN
    return length // BYTES_A_TOKEN + 1


def _messages(raw: bytes, length: int) -> int:
    if raw.find(b"[", 1) < 0:  # no message has a list of parts
        return length // BYTES_A_TOKEN + 1
    return _with_media(raw, length)


def _with_media(raw: bytes, length: int) -> int:
    media = 0
    for mark in _MEDIA_MARKS:
        at = raw.find(mark)
        while at >= 0:
            begin = at + len(mark)
            end = raw.find(b'"', begin)
            if end - begin > _MEDIA_BYTES:
                media += MEDIA_TOKENS
                length -= end - begin
            at = raw.find(mark, begin)
    return length // BYTES_A_TOKEN + 1 + media


def _count(prompt: bytes) -> int:
    """How many prompts there are in a completion's `prompt`."""
    if prompt[:1] != b"[" or prompt[1:].lstrip()[:1] not in (b'"', b"["):
        return 1
    return len(_LIST.decode(prompt))
