"""The worked example of docs/operator.md is what the controller says."""

from pathlib import Path

import yaml

from tests.controller.inspected import kept
from tests.controller.objects import llm_deployment
from tests.controller.test_inspections import assessed, fit_of, seen
from tokenfleet.controller.observed import Json

PAGE = Path(__file__).parent.parent.parent / "docs" / "operator.md"
SPEC: Json = {
    "model": {"source": "hf://meta-llama/Meta-Llama-3-8B"},
    "accelerator": "nvidia-h100-80gb",
    "engine": {"maxModelLen": 8192},
}


def test_the_worked_example_is_what_the_controller_says() -> None:
    section = PAGE.read_text().partition("## Does it fit?")[2]
    told: Json = yaml.safe_load(section.partition("```yaml\n")[2].partition("```")[0])["status"]
    deployment = llm_deployment(**SPEC)
    fit = fit_of(assessed(seen(told=True, **SPEC)))
    (condition,) = told["conditions"]
    assert told["model"] == {**kept(deployment), "facts": {}}
    assert told["memory"] == fit.memory
    assert (condition["status"], condition["reason"]) == (fit.verdict.status, fit.verdict.reason)
    assert condition["message"] == fit.verdict.message
