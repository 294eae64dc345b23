"""What a step works on, read from objects of the shape that vLLM's scheduler gives."""

from types import SimpleNamespace

import pytest

from tokenfleet_engine.profiling.steps import Scheduled, Step, read_schedule

Request = tuple[str, int]
"""Its name, and its tokens in the KV cache before the step."""


def schedule(scheduled: dict[str, int], *, new: list[Request], cached: list[Request]) -> SimpleNamespace:
    return SimpleNamespace(
        num_scheduled_tokens=scheduled,
        scheduled_new_reqs=[SimpleNamespace(req_id=name, num_computed_tokens=before) for name, before in new],
        scheduled_cached_reqs=SimpleNamespace(
            req_ids=[name for name, _ in cached], num_computed_tokens=[before for _, before in cached]
        ),
    )


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param(
            schedule({"a": 600}, new=[("a", 0)], cached=[]),
            Scheduled(sequences=1, decodes=0, prefill_tokens=600, context_tokens=0, attended_tokens=600 * 601 // 2),
            id="a whole prompt looks back on itself alone",
        ),
        pytest.param(
            schedule({"a": 88}, new=[], cached=[("a", 512)]),
            Scheduled(sequences=1, decodes=0, prefill_tokens=88, context_tokens=512, attended_tokens=88 * 512 + 88 * 89 // 2),
            id="a later chunk of a prompt looks back on the earlier ones",
        ),
        pytest.param(
            schedule({"a": 1, "b": 1}, new=[], cached=[("a", 600), ("b", 640)]),
            Scheduled(sequences=2, decodes=2, prefill_tokens=0, context_tokens=1240, attended_tokens=0),
            id="a token past the prompt is decode",
        ),
        pytest.param(
            schedule({"a": 4}, new=[], cached=[("a", 700)]),
            Scheduled(sequences=1, decodes=1, prefill_tokens=0, context_tokens=700, attended_tokens=0),
            id="several guessed tokens past the prompt are one decode",
        ),
        pytest.param(
            schedule({"a": 1, "b": 600}, new=[("b", 0)], cached=[("a", 601)]),
            Scheduled(sequences=2, decodes=1, prefill_tokens=600, context_tokens=601, attended_tokens=600 * 601 // 2),
            id="one that decodes while another's prompt comes in",
        ),
    ],
)
def test_a_schedule_is_read(output: SimpleNamespace, expected: Scheduled) -> None:
    assert read_schedule(output, prompt_tokens={"a": 600, "b": 600}) == expected


def test_a_step_with_any_tokens_of_a_prompt_is_prefill() -> None:
    mixed = Scheduled(sequences=2, decodes=1, prefill_tokens=1, context_tokens=9, attended_tokens=1)
    assert Step(mixed, 0.5, 2).as_json() == {
        "kind": "prefill", "sequences": 2, "decodes": 1, "prefill_tokens": 1, "context_tokens": 9, "attended_tokens": 1,
        "output_tokens": 2, "seconds": 0.5,
    }  # fmt: skip
