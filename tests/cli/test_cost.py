"""`tokenfleet cost` on a cluster of dictionaries, and `break-even`, which needs none."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from typer.testing import CliRunner, Result

from tests.planning.speed.models import DENSE
from tokenfleet import contract
from tokenfleet.cli.cost.commands import Tools
from tokenfleet.cli.cost.counts import Counts, Tokens, added, counts_of, since
from tokenfleet.cli.cost.sources import Crew, Look
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.main import app
from tokenfleet.cli.options import Place
from tokenfleet.controller.costs.costs import figure
from tokenfleet.planning.accelerators import find_accelerator
from tokenfleet.planning.cost import Use, cost_of
from tokenfleet.planning.memory import estimate_memory
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.speed import max_rate

Json = dict[str, Any]
USED = {"currency": "USD", "hourly": "6.88", "perMillionTokens": "2", "idleShare": "0.25"}


def deployment(name: str = "llama", *, namespace: str = "chat", cost: Json | None = USED, **spec: Any) -> Json:
    fields = {"model": {"source": "pvc://m"}, "accelerator": "nvidia-h100-80gb", **spec}
    status: Json = {"replicas": 1} if cost is None else {"replicas": 1, "cost": cost}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": fields, "status": status}


def exposition(requests: dict[str, int], tokens: dict[tuple[str, str], tuple[int, int]]) -> str:
    """As a router writes it."""
    registry = CollectorRegistry()
    answered = Counter(contract.METRIC_REQUESTS, "Requests.", ["code", "reason", "model"], registry=registry)
    prompts = Counter(contract.METRIC_PROMPT_TOKENS, "Tokens.", ["model", "key"], registry=registry)
    completions = Counter(contract.METRIC_COMPLETION_TOKENS, "Tokens.", ["model", "key"], registry=registry)
    for model, count in requests.items():
        answered.labels("200", "relayed", model).inc(count)
        answered.labels("503", "queue_full", model).inc(7)
    answered.labels("401", "unauthorized", "").inc(3)
    for (model, key), (prompt, completion) in tokens.items():
        prompts.labels(model, key).inc(prompt)
        completions.labels(model, key).inc(completion)
    return generate_latest(registry).decode()


ONE = exposition({"llama": 100}, {("llama", "alice"): (60_000, 10_000), ("llama", "bob"): (20_000, 10_000)})


@dataclass
class Cluster:
    """LLMDeployments with a router each, but for those that name one."""

    objects: list[Json]
    looks: dict[str, list[str]] = field(default_factory=dict)
    """By the routers' owner: what one pod of it answers at each look."""
    silent: tuple[str, ...] = ()
    namespace: str = "chat"
    now: float = 0.0

    def deployments(self, names: Sequence[str], *, everywhere: bool) -> list[Json]:
        found = [one for one in self.objects if everywhere or one["metadata"]["namespace"] == self.namespace]
        return [one for one in found if not names or one["metadata"]["name"] in names]

    def crew(self, deployment: Json) -> Crew:
        owner = (deployment["spec"].get("routerRef") or {}).get("name")
        if owner == "gone":
            raise CliError("There is no LLMRouter gone in the namespace chat, which spec.routerRef names.")
        return deployment["metadata"]["namespace"], owner or deployment["metadata"]["name"], bool(owner)

    def look(self, crew: Crew) -> Look:
        texts = self.looks.get(crew[1], [])
        pods = {f"{crew[1]}-0": counts_of(texts.pop(0) if len(texts) > 1 else texts[0])} if texts else {}
        trouble = tuple(f"The router {pod} does not answer." for pod in self.silent)
        return Look(pods, trouble)


def run(cluster: Cluster, *arguments: str) -> Result:
    places: list[Place] = []

    def sleep(seconds: float) -> None:
        cluster.now += seconds

    def open_source(place: Place) -> Cluster:
        places.append(place)
        return cluster

    tools = Tools(open_source=open_source, clock=lambda: cluster.now, sleep=sleep)
    return CliRunner().invoke(app, ["cost", *arguments], obj=tools, catch_exceptions=False)


def bills(cluster: Cluster, *arguments: str) -> list[Json]:
    result = run(cluster, *arguments, "--json")
    assert result.exit_code == 0, result.output
    found: list[Json] = json.loads(result.stdout)["deployments"]
    return found


# --- what routers count


def test_counts_are_read_out_of_metrics() -> None:
    found = counts_of(ONE)
    assert found == {"llama": Counts(100, {"alice": Tokens(60_000, 10_000), "bob": Tokens(20_000, 10_000)})}
    assert found["llama"].tokens == Tokens(80_000, 20_000)


def test_a_name_with_quotes_is_read_as_it_is() -> None:
    odd = 'a "b" \\ {c="d"} e\nf'
    assert list(counts_of(exposition({}, {("m", odd): (1, 2)}))["m"].keys) == [odd]


def test_routers_add_up_and_one_that_began_anew_counts_whole() -> None:
    before = counts_of(exposition({"llama": 90}, {("llama", "alice"): (50_000, 9_000)}))
    assert since(counts_of(ONE), before)["llama"] == Counts(10, {"alice": Tokens(10_000, 1_000), "bob": Tokens(20_000, 10_000)})
    assert since(before, counts_of(ONE))["llama"] == before["llama"]
    assert added([before, counts_of(ONE)])["llama"].tokens == Tokens(130_000, 29_000)


# --- bills


def test_what_the_controller_measured_is_shared_out_by_what_routers_counted() -> None:
    (found,) = bills(Cluster([deployment()], {"llama": [ONE]}))
    assert (found["hourly"], found["perMillionTokens"], found["idleShare"]) == (6.88, 2.0, 0.25)
    spent = 2.0 * 100_000 / 1e6
    assert found["perRequest"] == pytest.approx(spent / 100)
    assert found["perMillionOutput"] == pytest.approx(4 * found["perMillionInput"])
    parts = 80_000 * found["perMillionInput"] + 20_000 * found["perMillionOutput"]
    assert parts / 1e6 == pytest.approx(spent)


def test_a_window_is_measured_by_two_looks() -> None:
    before = exposition({"llama": 90}, {("llama", "alice"): (50_000, 10_000), ("llama", "bob"): (20_000, 10_000)})
    cluster = Cluster([deployment()], {"llama": [before, ONE]})
    (found,) = bills(cluster, "llama", "--over", "5m")
    assert cluster.now == 300
    assert (found["requests"], found["promptTokens"], found["completionTokens"]) == (10, 10_000, 0)
    assert found["perRequest"] == pytest.approx(6.88 / 12 / 10)
    assert found["perMillionTokens"] == pytest.approx(6.88 / 12 / 0.01)


def test_the_table_has_a_line_each_and_the_sum() -> None:
    other = deployment("qwen", parallelism={"tensor": 2, "pipeline": 2}, cost={"currency": "USD", "hourly": "27.52"})
    result = run(Cluster([deployment(), other], {"llama": [ONE], "qwen": [""]}))
    head, llama, qwen, together = result.stdout.splitlines()
    assert head.split()[:3] == ["NAME", "CLASS", "REPLICAS"]
    assert llama.split() == [
        "llama", "nvidia-h100-80gb", "1", "1", "$6.88", "$0.002", "$1.25", "$5", "$2", "25%",
    ]  # fmt: skip
    assert qwen.split() == ["qwen", "nvidia-h100-80gb", "1", "4", "$27.52", "—", "—", "—", "—", "—"]
    assert together == "Together $34.40 an hour."
    assert "No tokens of qwen so far" in result.stderr


def test_by_key_the_cost_follows_the_tokens() -> None:
    result = run(Cluster([deployment()], {"llama": [ONE]}), "--by", "key", "--json")
    alice, bob = json.loads(result.stdout)["keys"]
    assert (alice["key"], alice["share"]) == ("alice", pytest.approx(100 / 160))
    assert (bob["key"], bob["share"]) == ("bob", pytest.approx(60 / 160))
    assert alice["hourly"]["USD"] + bob["hourly"]["USD"] == pytest.approx(6.88)
    evenly = run(Cluster([deployment()], {"llama": [ONE]}), "--by", "key", "--json", "--output-weight", "1")
    assert [each["share"] for each in json.loads(evenly.stdout)["keys"]] == pytest.approx([0.7, 0.3])


def test_by_namespace_all_of_it_is_added() -> None:
    objects = [deployment(), deployment("qwen"), deployment("embed", namespace="search")]
    result = run(Cluster(objects, {"llama": [ONE], "qwen": [""], "embed": [""]}), "-A", "--by", "namespace")
    assert [line.split()[:3] for line in result.stdout.splitlines()[1:]] == [
        ["chat", "67%", "$13.76"],
        ["search", "33%", "$6.88"],
    ]


def test_those_who_share_a_model_share_its_tokens_by_what_they_cost() -> None:
    shared: Json = {"routerRef": {"name": "front"}, "model": {"source": "pvc://m", "servedName": "llama"}}
    cheap = deployment("cheap", cost={**USED, "hourly": "1"}, **shared)
    dear = deployment("dear", cost={**USED, "hourly": "3"}, **shared)
    other = deployment("other", routerRef={"name": "front"})
    found = bills(Cluster([cheap, dear, other], {"front": [ONE]}))
    assert [each["promptTokens"] for each in found] == [20_000, 60_000, 0]


def test_an_adapter_s_tokens_are_its_deployment_s() -> None:
    text = exposition({}, {("llama", "a"): (1, 2), ("law", "a"): (10, 20), ("else", "a"): (100, 200)})
    one = deployment(model={"source": "pvc://m", "adapters": [{"name": "law", "source": "pvc://a"}]})
    (found,) = bills(Cluster([one], {"llama": [text]}))
    assert (found["promptTokens"], found["completionTokens"]) == (11, 22)


# --- what is missing


def test_a_class_without_a_price_is_told_with_the_way_to_give_it_one() -> None:
    result = run(Cluster([deployment(accelerator="nvidia", cost=None)], {"llama": [ONE]}))
    assert result.stdout.splitlines()[1].split() == ["llama", "nvidia", "1", "1", *["—"] * 6]
    assert "nvidia has no price" in result.stderr and "accelerators.nvidia.price.on_demand" in result.stderr


def test_a_cost_that_is_not_told_yet_is_not_a_missing_price() -> None:
    result = run(Cluster([deployment(cost=None)], {"llama": [ONE]}))
    assert "has not said yet what llama costs" in result.stderr


def test_routers_that_do_not_answer_are_told_and_the_rest_is_shown() -> None:
    cluster = Cluster([deployment(), deployment("qwen")], {"llama": [ONE]}, silent=("chat/llama-router-1",))
    result = run(cluster)
    assert "The router chat/llama-router-1 does not answer." in result.stderr
    assert "$6.88" in result.stdout.splitlines()[1]


def test_where_nobody_routes_the_hour_is_shown_all_the_same() -> None:
    result = run(Cluster([deployment(), deployment("qwen", routerRef={"name": "gone"})]))
    assert "No router of chat/llama is ready" in result.stderr
    assert "There is no LLMRouter gone" in result.stderr
    assert [line.split()[4:6] for line in result.stdout.splitlines()[1:3]] == [["$6.88", "—"]] * 2


def test_an_empty_namespace_is_said_to_be_empty() -> None:
    result = run(Cluster([]))
    assert (result.stdout, result.stderr) == ("", "There is no LLMDeployment in the namespace chat.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--over", "soon"], "--over 'soon'", id="no span"),
        pytest.param(["--over", "0s"], "between a second and a day", id="no time"),
        pytest.param(["llama", "-A"], "leave it out, or the names", id="names of all namespaces"),
        pytest.param(["--output-weight", "0"], "--output-weight 0", id="answers for nothing"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(Unusable, match=message):
        run(Cluster([deployment()]), *arguments)


# --- break-even

ASKED = ["--input", "1000", "--output", "300", "--api-input", "0.5", "--api-output", "1.5"]
H100 = ["--accelerator", "nvidia-h100-80gb"]


def compared(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["cost", "break-even", *ASKED, *arguments], catch_exceptions=False)


def test_the_traffic_at_which_own_gpus_win(tmp_path: Path) -> None:
    result = compared(*H100, "--rate-per-replica", "2.6", "--plot", str(tmp_path / "costs.png"))
    assert result.exit_code == 0
    assert "costs $6.88 an hour and takes 2.6 requests/s" in result.stdout
    assert "Own GPUs win from 2.01 requests/s on (226 million tokens a day): 1 replica, 77% used." in result.stdout
    assert "from 8.05 requests/s on never" in result.stdout
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")


def test_programs_get_the_same() -> None:
    found = json.loads(compared(*H100, "--rate-per-replica", "8", "--gpus", "2", "--spot", "--json").stdout)
    assert found["replicaHourly"] == pytest.approx(4.92)
    assert found["firstRequestsPerSecond"] == pytest.approx(4.92 / 3600 / 0.00095)
    assert found["firstTokensPerDay"] == pytest.approx(found["firstRequestsPerSecond"] * 1300 * 86_400)


def test_where_they_never_win_the_exit_code_says_so() -> None:
    result = compared(*H100, "--rate-per-replica", "1")
    assert result.exit_code == 3
    assert "never win: a replica would have to take 2.01 requests/s, 2.01 times" in result.stdout


def test_an_own_price_replaces_that_of_the_class() -> None:
    found = json.loads(compared("--accelerator", "nvidia", "--price", "2", "--rate-per-replica", "8", "--json").stdout)
    assert found["replicaHourly"] == 2.0


@pytest.fixture
def facts(tmp_path: Path) -> str:
    """A file with a model's."""
    file = tmp_path / "model.json"
    file.write_text(json.dumps(DENSE.as_json()))
    return str(file)


def test_before_anything_is_measured_the_rate_is_estimated(facts: str) -> None:
    result = compared(*H100, "--model", facts, "--ttft", "1", "--itl", "0.05", "--json")
    found = json.loads(result.stdout)
    serving = Serving(accelerator=find_accelerator("nvidia-h100-80gb"))
    memory = estimate_memory(DENSE, serving)
    expected = max_rate(DENSE, serving, input_tokens=1000, output_tokens=300, ttft=1.0, itl=0.05, memory=memory)
    assert (found["requestsPerSecondPerReplica"], found["estimated"]) == (pytest.approx(expected), True)
    assert "requests/s, as estimated:" in compared(*H100, "--model", facts).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([*H100, "--ttft", "0.0001"], "No rate of requests meets --ttft and --itl", id="nobody can meet it"),
        pytest.param(["--accelerator", "nvidia", "--price", "1"], "no figures to estimate with", id="nobody knows the GPU"),
        pytest.param(["--accelerator", "nvidia-t4-16gb"], "does not fit 1 × nvidia-t4-16gb", id="too small a GPU"),
    ],
)
def test_what_cannot_be_estimated_is_told(facts: str, arguments: list[str], message: str) -> None:
    with pytest.raises(CliError, match=re.escape(message)):
        compared("--model", facts, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--accelerator", "nvidia", "--rate-per-replica", "1"], "nvidia has no price", id="no price"),
        pytest.param(["--accelerator", "h100", "--rate-per-replica", "1"], "--accelerator: no class is called", id="no class"),
        pytest.param(H100, "How many requests", id="no rate"),
        pytest.param([*H100, "--rate-per-replica", "1", "--model", "x"], "one of both", id="both"),
        pytest.param([*H100, "--rate-per-replica", "-1"], "has to be above 0", id="a negative rate"),
        pytest.param([*H100, "--rate-per-replica", "1", "--api-input", "-3"], "0 or more", id="an API that pays"),
        pytest.param([*H100, "--rate-per-replica", "1", "--plot", "x.doc"], ".png", id="no picture"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(Unusable, match=message):
        compared(*arguments)


# --- the page

DOCS = (Path(__file__).parent.parent.parent / "docs" / "cost.md").read_text()


def shown(command: str) -> list[str]:
    """What the page shows below a command line."""
    return DOCS.partition(f"$ {command}\n")[2].partition("```")[0].splitlines()


def written(result: Result) -> list[str]:
    return [line.rstrip() for line in result.stdout.splitlines()]


def test_the_page_shows_what_the_commands_write() -> None:
    hour = cost_of(Use(cost=27.52, prompt_tokens=36e6, completion_tokens=9e6))
    assert hour.per_million_tokens is not None
    cost = {**USED, "hourly": "27.52", "perMillionTokens": figure(hour.per_million_tokens)}
    assert json.dumps(cost, separators=(",", ":"), sort_keys=True) in DOCS
    one = deployment(cost=cost, parallelism={"tensor": 2})
    one["status"]["replicas"] = 2
    tokens = {("llama", "alice"): (12_000_000, 1_000_000), ("llama", "bob"): (24_000_000, 8_000_000)}
    text = exposition({"llama": 30_000}, tokens)
    for command in ("tokenfleet cost llama", "tokenfleet cost llama --by key"):
        arguments = command.split()[2:]
        assert written(run(Cluster([one], {"llama": [text]}), *arguments)) == shown(command), command


def test_the_page_s_arithmetic_is_right() -> None:
    hour = cost_of(Use(cost=27.52, requests=30_000, prompt_tokens=36e6, completion_tokens=9e6))
    assert hour.per_million_prompt and hour.per_million_completion and hour.per_request
    lines = dict(
        line.split("=", 1) for line in DOCS.partition("\nweighted ")[2].partition("```")[0].splitlines()[1:] if "=" in line
    )
    values = {name.strip(): line.rpartition("$")[2].strip() for name, line in lines.items()}
    assert values == {
        "/M IN": f"{hour.per_million_prompt:.3f}",
        "/M OUT": f"{hour.per_million_completion:.2f}",
        "together": "27.52",
        "/REQUEST": f"{hour.per_request:.6f}",
    }
    assert 36 * hour.per_million_prompt + 9 * hour.per_million_completion == pytest.approx(27.52)
    rate = 6.88 / (3600 * 0.00095)
    assert f"= {rate:.2f} requests/s, the rate" in DOCS
    assert f"n = r / (2.6 − r) = {rate / (2.6 - rate):.2f} on" in DOCS


def test_the_page_s_break_even_is_what_the_command_says() -> None:
    (command,) = [line[2:] for line in DOCS.splitlines() if line.startswith("$ tokenfleet cost break-even")]
    result = CliRunner().invoke(app, command.split()[1:], catch_exceptions=False)
    assert written(result) == shown(command)
