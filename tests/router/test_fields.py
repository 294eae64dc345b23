"""What is read of a body, what is refused, and that a rewritten body keeps what was not rewritten."""

import json

import pytest

from tokenfleet.router import fields
from tokenfleet.router.rejections import INVALID_BODY, MODEL_MISSING, Kind, Rejected


@pytest.mark.parametrize(
    ("body", "kind", "param"),
    [
        pytest.param(b"", INVALID_BODY, None, id="no body"),
        pytest.param(b"{", INVALID_BODY, None, id="not JSON"),
        pytest.param(b"[]", INVALID_BODY, None, id="not an object"),
        pytest.param(b'{"model":"\xff"}', INVALID_BODY, None, id="not UTF-8"),
        pytest.param(b"{}", MODEL_MISSING, "model", id="no model"),
        pytest.param(b'{"model":""}', MODEL_MISSING, "model", id="an empty model"),
        pytest.param(b'{"model":3}', MODEL_MISSING, "model", id="a model that is no string"),
        pytest.param(b'{"model":"m","n":"2"}', INVALID_BODY, "n", id="a count that is no number"),
        pytest.param(b'{"model":"m","stream":1}', INVALID_BODY, "stream", id="a flag that is no flag"),
        pytest.param(b'{"model":"m","stream_options":3}', INVALID_BODY, "stream_options", id="options that are no object"),
    ],
)
def test_what_is_refused(body: bytes, kind: Kind, param: str | None) -> None:
    with pytest.raises(Rejected) as refused:
        fields.read(body)
    assert (refused.value.kind, refused.value.param) == (kind, param)


def test_the_last_of_two_equal_fields_counts_as_for_the_engine() -> None:
    body = b'{"model":"m","n":1,"n":50}'
    assert fields.read(body).n == json.loads(body)["n"] == 50


def test_rewriting_keeps_the_bytes_of_what_it_does_not_change() -> None:
    body = b' {"model" : "chat", "temperature":1.0, "seed":12345678901234567890, "messages":[ {"a":"\\u00e9"} ]}'
    rewritten = fields.rewrite(body, model="llama", stream_options={"include_usage": True})
    assert b'"temperature":1.0' in rewritten and b"12345678901234567890" in rewritten
    assert b'[ {"a":"\\u00e9"} ]' in rewritten
    assert json.loads(rewritten) == json.loads(body) | {"model": "llama", "stream_options": {"include_usage": True}}
