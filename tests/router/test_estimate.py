"""What a request is charged before its tokens are counted."""

import msgspec
import pytest

from tokenfleet.router import fields
from tokenfleet.router.callers import estimate

_IMAGE = "data:image/png;base64," + "A" * 400_000


def tokens(body: dict[str, object], bound: int | None = None) -> int:
    raw = msgspec.json.encode({"model": "llama", **body})
    return estimate.tokens(fields.read(raw), len(raw), bound)


def chat(content: object, **more: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": content}], **more}


@pytest.mark.parametrize(
    ("body", "low", "high"),
    [
        pytest.param(chat("a" * 4_000, max_tokens=0), 1_000, 1_030, id="four bytes a token"),
        pytest.param(chat("a" * 4_000, max_tokens=100), 1_100, 1_130, id="and the answer"),
        pytest.param(chat("a" * 4_000, max_tokens=9, max_completion_tokens=100), 1_100, 1_130, id="by its newer name first"),
        pytest.param(chat("a" * 4_000, max_tokens=100, n=3), 1_300, 1_330, id="once a choice"),
        pytest.param(chat("a" * 4_000, max_tokens=100, n=2, best_of=5), 1_500, 1_530, id="the best of five"),
        pytest.param(chat("a", tools=["b" * 4_000], max_tokens=0), 1_000, 1_040, id="tools are prompt too"),
        pytest.param(chat("a"), 512, 540, id="a chat that does not say"),
        pytest.param({"prompt": "a"}, 16, 40, id="a completion that does not say"),
        pytest.param({"prompt": ["a", "b", "c"], "max_tokens": 100}, 300, 330, id="three prompts, three answers"),
        pytest.param({"prompt": list(range(1_000)), "max_tokens": 1}, 1_001, 1_030, id="token ids are tokens"),
        pytest.param({"prompt": [[1] * 100, [2] * 100], "max_tokens": 10}, 219, 240, id="two lists of token ids"),
        pytest.param({"prompt": [1_000_000] * 100, "max_tokens": 1}, 101, 130, id="whatever their digits"),
        pytest.param({"input": ["a" * 400] * 10}, 1_000, 1_040, id="embeddings have no answer"),
        pytest.param({"input": [1] * 100}, 100, 115, id="embeddings of token ids"),
        pytest.param({"query": "a" * 4_000}, 1_000, 1_015, id="what has another form is counted by its bytes"),
        pytest.param(
            chat([{"type": "image_url", "image_url": {"url": _IMAGE}}] * 2, max_tokens=0),
            2_000,
            2_100,
            id="an image is a thousand",
        ),
        pytest.param(
            chat([{"type": "input_audio", "input_audio": {"data": "A" * 400_000}}], max_tokens=0),
            1_000,
            1_100,
            id="so is a sound",
        ),
        pytest.param(chat([{"type": "text", "text": "a" * 400_000}], max_tokens=0), 100_000, 100_030, id="a long text is not"),
    ],
)
def test_estimate(body: dict[str, object], low: int, high: int) -> None:
    assert low <= tokens(body) <= high


def test_what_is_usual_is_never_above_the_bound() -> None:
    assert tokens(chat("a"), 100) - tokens(chat("a", max_tokens=0), 100) in range(95, 101)
    assert tokens({"prompt": "a"}, 3) < tokens({"prompt": "a"})
