"""docs/tuning.md: the numbers of its example, its table and its formula are those of the code."""

import re
from math import ceil, floor, inf, log
from pathlib import Path

import pytest
import yaml

from tokenfleet.planning.tuning import Found, Probe, Search, Try, next_step
from tokenfleet.planning.tuning.confidence import fewest_samples, least_within, met, most_within

PAGE = (Path(__file__).parents[3] / "docs" / "tuning.md").read_text()
ALPHA, SAMPLES = 0.05, 400


def test_the_table_of_requests() -> None:
    rows = []
    for percentile in (50, 90, 95, 99):
        share = percentile / 100
        least, most = (bound(SAMPLES, share=share, alpha=ALPHA) for bound in (least_within, most_within))
        enough = "–" if least == inf else str(ceil(least))
        rows.append(f"| {percentile} | {fewest_samples(share=share, alpha=ALPHA)} | {enough} | {floor(most)} |")
    assert re.findall(r"^\| \d+ \| \d+ \| .* \|$", PAGE, re.MULTILINE) == rows


def test_the_formula_is_what_is_computed() -> None:
    """By adding up the integral, for 88 and for 87 samples that are all within the limit of a 95th percentile."""

    def shown(samples: int, share: float, steps: int = 20_000) -> bool:
        width = (1 - share) / steps
        integral = sum((share + (number + 0.5) * width) ** samples for number in range(steps)) * width
        return log(integral / ((1 - share) * share**samples)) >= log(1 / ALPHA)

    for samples in (87, 88):
        assert shown(samples, 0.95) == met(samples, samples, share=0.95, alpha=ALPHA) == (samples == 88)


def test_the_course_of_a_search() -> None:
    (told,) = re.findall(r"^((?:\d+, )+\d+)$", PAGE, re.MULTILINE)
    probes: list[Probe] = []
    while isinstance(step := next_step(Search(most=128), probes), Try):
        kept = step.concurrency <= 41
        probes.append(
            Probe(concurrency=step.concurrency, verdict="met" if kept else "missed", tokens_per_second=step.concurrency)
        )
    assert told == ", ".join(str(each.concurrency) for each in probes)
    assert step == Found(41, "limit")


def test_the_example_s_tries_are_those_of_the_search_and_its_answer_that_of_the_timing() -> None:
    verdicts = {"kept": "met", "broken": "missed", "too close to call": "unclear"}
    rows = re.findall(r"^ +(\d+) +[\d.]+ ms .*? (\d+) +\d+ +0 +\d:\d\d  (.+)$", PAGE, re.MULTILINE)
    probes = [
        Probe(concurrency=int(at_once), verdict=verdicts[verdict], tokens_per_second=float(tokens))  # type: ignore[arg-type]
        for at_once, tokens, verdict in rows
    ]
    assert len(probes) == 9
    for number, probe in enumerate(probes):
        step = next_step(Search(), probes[:number])
        assert isinstance(step, Try)
        assert step.concurrency == probe.concurrency
    answer = next_step(Search(), probes)
    assert answer == Found(max(number for number in range(1, 256) if 20 + number <= 50.5), "limit")
    (document,) = re.findall(r"^spec:\n(?:  .*\n)+", PAGE, re.MULTILINE)
    assert yaml.safe_load(document) == {"spec": {"engine": {"batching": {"maxNumSeqs": answer.concurrency}}}}


@pytest.mark.parametrize("default", ["`--start` (8)", "`--max` (256)", "less than 5 % more tokens (`--gain`)"])
def test_the_defaults_that_the_page_names(default: str) -> None:
    assert default in PAGE
    assert (Search().start, Search().most, Search().gain) == (8, 256, 0.05)
