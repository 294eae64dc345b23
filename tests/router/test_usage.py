"""Usage is found wherever an answer has it, and nowhere else."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.router.usage import Usage, UsageScan, find_usage

ANSWER = (
    b'{"id":"1","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":5,"total_tokens":8,"completion_tokens":3}}'
)


@pytest.mark.parametrize(
    ("data", "usage"),
    [
        pytest.param(ANSWER, Usage(5, 3), id="a completion"),
        pytest.param(ANSWER.replace(b":", b": "), Usage(5, 3), id="with spaces"),
        pytest.param(
            b'{"data":[],"usage":{"prompt_tokens":5,"total_tokens":5}}', Usage(5, 0), id="an embedding generates nothing"
        ),
        pytest.param(b'{"choices":[],"usage":null}', None, id="null"),
        pytest.param(b'{"choices":[]}', None, id="absent"),
        pytest.param(b'{"text":"\\"usage\\":{\\"prompt_tokens\\":9}"}', None, id="in a text it is no usage"),
    ],
)
def test_find(data: bytes, usage: Usage | None) -> None:
    assert find_usage(data) == usage


@given(st.text(), st.integers(0, 10**9), st.integers(0, 10**9), st.lists(st.integers(0, 500), max_size=6))
def test_cut_anywhere_and_behind_any_text_it_is_found(text: str, prompt: int, completion: int, cuts: list[int]) -> None:
    usage = {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}
    whole = msgspec.json.encode({"choices": [{"text": text}], "usage": usage, "kv_transfer_params": None})
    places = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    scan = UsageScan()
    for start, end in pairwise(places):
        scan.feed(whole[start:end])
    assert scan.found == Usage(prompt, completion)
