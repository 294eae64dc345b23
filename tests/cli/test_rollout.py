"""`tokenfleet rollout`, `restart`, `suspend` and `resume` on objects in memory."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from tokenfleet import contract
from tokenfleet.cli.cluster.connection import Cluster as ClusterOf
from tokenfleet.cli.cluster.connection import Missing, Thing
from tokenfleet.cli.cluster.deployments import ClusterDeployments, Json
from tokenfleet.cli.errors import CliError, Unreachable
from tokenfleet.cli.main import app
from tokenfleet.cli.options import Place
from tokenfleet.cli.rollouts.watching import Tools

NOW = datetime(2026, 3, 1, 12, 2, 5, tzinfo=UTC)
_CALLS = ("get_namespaced_custom_object", "patch_namespaced_custom_object", "list_namespaced_custom_object")
BEGAN = "2026-03-01T12:00:00Z"
ON_TRIAL: Json = {
    "phase": "Progressing",
    "revision": "2-ab12cd34",
    "step": 1,
    "weight": 10,
    "began": BEGAN,
    "since": BEGAN,
    "message": "Step 1 of 2: it gets 10 % of the requests, for 60 s.",
    "figures": {"time": BEGAN, "requests": 200, "failed": 3, "ttftMilliseconds": 140},
}


def owner(rollout: Json | None = None, *, generation: int = 2, **spec: Any) -> Json:
    status = {"observedGeneration": generation} | ({"rollout": rollout} if rollout else {})
    canary: Json = {"rollout": {"canary": {"weights": [10, 50]}}}
    metadata = {"name": "llama", "namespace": "default", "generation": 2}
    return {"metadata": metadata, "spec": {**canary, **spec}, "status": status}


def engines(name: str = "llama-engine", *, wanted: int = 2, new: int = 2, there: int = 2, restarted: str = "") -> Json:
    counts = {"replicas": there, "updatedReplicas": new, "readyReplicas": wanted}
    annotations = {contract.ANNOTATION_RESTARTED: restarted} if restarted else {}
    return {
        "metadata": {"name": name, "generation": 3},
        "spec": {"replicas": wanted, "template": {"metadata": {"annotations": annotations}}},
        "status": {"observedGeneration": 3, **counts},
    }


@dataclass
class Cluster:
    """One LLMDeployment and its engines, and what happens to them while somebody looks."""

    owner: Json = field(default_factory=owner)
    deployments: list[Json] = field(default_factory=lambda: [engines()])
    happens: list[Callable[["Cluster"], None]] = field(default_factory=list)
    patches: list[Json] = field(default_factory=list)
    namespace: str = "default"
    asked_for: dict[str, Any] = field(default_factory=dict)
    seconds: int = 0
    away: bool = False

    def get(self, name: str) -> Json:
        if self.away:
            raise Unreachable("It does not answer.")
        if name != "llama":
            raise CliError(f"There is no LLMDeployment {name}.")
        return copy.deepcopy(self.owner)

    def patch(self, name: str, change: Json) -> Json:
        self.patches.append(change)
        self.owner["metadata"].setdefault("annotations", {}).update((change.get("metadata") or {}).get("annotations") or {})
        return self.get(name)

    def engines(self, name: str) -> list[Json]:
        return copy.deepcopy(self.deployments)

    def open(self, place: Place) -> "Cluster":
        self.asked_for = asdict(place)
        return self

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        self.seconds += int(seconds)
        assert self.happens, "it would look for ever"
        self.happens.pop(0)(self)

    def run(self, line: str) -> Any:
        tools = Tools(open_deployments=self.open, now=self.now, sleep=self.sleep)
        return CliRunner().invoke(app, line.split(), obj=tools, terminal_width=200)

    def done(self, line: str) -> Any:
        result = self.run(line)
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    def failed(self, line: str) -> str:
        error = self.run(line).exception
        assert isinstance(error, CliError)
        return str(error)


def test_a_canarys_progress_is_a_table() -> None:
    cluster = Cluster(owner(ON_TRIAL), [engines("llama-canary", wanted=1, new=1, there=1), engines(there=3, new=1)])
    text = cluster.done("rollout status llama -n prod --context east").stdout
    rows = [" ".join(line.split()) for line in text.splitlines()]
    for row in (
        "LLMDeployment: default/llama",
        "Phase: Progressing",
        "Revision: 2-ab12cd34",
        "Step: 1 of 2 (10 %, 50 %); its share now: 10 %",
        "Requests: 200, of which 3 failed (1.5%)",
        "First token: 140 ms at the 95th percentile",
        "Elapsed: 2m05s",
        "Message: Step 1 of 2: it gets 10 % of the requests, for 60 s.",
        "PODS OF WANTED NEW OLD READY",
        "llama-canary 1 1 0 1",
        "llama-engine 2 1 2 2",
    ):
        assert row in rows
    assert cluster.asked_for == {"kubeconfig": None, "context": "east", "namespace": "prod"}


def test_the_same_for_programs() -> None:
    body = json.loads(Cluster(owner(ON_TRIAL)).done("rollout status llama --json").stdout)
    assert body["elapsedSeconds"] == 125
    assert body["errorRate"] == 0.015
    assert body["weights"] == [10, 50]
    assert body["pods"] == [{"deployment": "llama-engine", "wanted": 2, "new": 2, "old": 0, "ready": 2}]


@pytest.mark.parametrize(
    ("seen", "deployments", "phase"),
    [
        pytest.param(owner(), [engines()], "Complete", id="nothing is under way"),
        pytest.param(owner(), [engines(new=1, there=3)], "Updating", id="an old one is left"),
        pytest.param(owner(), [engines(), engines("llama-prefill", new=0)], "Updating", id="those that read prompts follow"),
        pytest.param(owner(generation=1), [engines()], "Waiting", id="the controller has not seen the spec"),
        pytest.param(owner(), [], "Waiting", id="nothing was made yet"),
        pytest.param(owner(ON_TRIAL), [engines()], "Progressing", id="a canary tries it"),
    ],
)
def test_phases(seen: Json, deployments: list[Json], phase: str) -> None:
    cluster = Cluster(seen, deployments)
    assert json.loads(cluster.done("rollout status llama --json").stdout)["phase"] == phase


def rolls(rollout: Json | None, *, new: int = 2, there: int = 2) -> Callable[[Cluster], None]:
    def happen(cluster: Cluster) -> None:
        annotations = cluster.owner["metadata"].get("annotations") or {}
        cluster.owner = owner(rollout)
        cluster.owner["metadata"]["annotations"] = annotations
        cluster.deployments = [engines(restarted=annotations.get(contract.ANNOTATION_RESTARTED, ""), new=new, there=there)]

    return happen


def test_watching_ends_with_the_promotion() -> None:
    promoting = {**ON_TRIAL, "phase": "Promoting", "message": "All engines are replaced now."}
    cluster = Cluster(owner(ON_TRIAL), happens=[rolls(ON_TRIAL), rolls(promoting, new=1, there=3), rolls(None)])
    lines = cluster.done("rollout status llama --watch").stdout.splitlines()
    assert [line.split()[1].rstrip(":") for line in lines] == ["Progressing", "Promoting", "Complete"], "a line for each change"
    assert "llama-engine 1 new 2 old 2 ready. All engines are replaced now." in lines[1]


def goes_away(cluster: Cluster) -> None:
    cluster.away = True


def comes_back(cluster: Cluster) -> None:
    cluster.away = False
    rolls(None)(cluster)


def test_watching_survives_a_cluster_that_does_not_answer_for_a_while() -> None:
    cluster = Cluster(owner(ON_TRIAL), happens=[goes_away, *[goes_away] * 100, comes_back])
    lines = cluster.done("rollout status llama --watch").stdout.splitlines()
    assert [line.split()[1].rstrip(":") for line in lines] == ["Progressing", "Complete"]
    gone = Cluster(owner(ON_TRIAL), happens=[goes_away] * 200)
    assert gone.failed("rollout status llama --watch") == "It does not answer."
    assert gone.seconds == 181


def test_watching_a_rollback_fails() -> None:
    back = {**ON_TRIAL, "phase": "RolledBack", "weight": 0, "message": "9 of 40 requests failed."}
    assert Cluster(owner(ON_TRIAL), happens=[rolls(back)]).failed("rollout status llama -w") == (
        "The change of default/llama was rolled back: 9 of 40 requests failed."
    )
    assert Cluster(owner(back)).done("rollout status llama").exit_code == 0, "to look is no failure"


@pytest.mark.parametrize(
    ("rollout", "verb"),
    [
        pytest.param(ON_TRIAL, "promote", id="a canary is promoted"),
        pytest.param({**ON_TRIAL, "phase": "RolledBack"}, "promote", id="so is what was rolled back"),
        pytest.param(ON_TRIAL, "abort", id="a canary is aborted"),
    ],
)
def test_an_order_names_its_revision(rollout: Json, verb: str) -> None:
    cluster = Cluster(owner(rollout))
    result = cluster.done(f"rollout {verb} llama")
    assert cluster.patches == [{"metadata": {"annotations": {"tokenfleet.dev/rollout": f"{verb}:2-ab12cd34"}}}]
    assert (
        "revision 2-ab12cd34 of default/llama. Follow it: tokenfleet rollout status llama -n default --watch" in result.stderr
    )


def without_canary() -> Json:
    body = owner()
    return {**body, "spec": {"rollout": {}}}


@pytest.mark.parametrize(
    ("seen", "verb", "words"),
    [
        pytest.param(owner(), "promote", "nothing to promote for default/llama: no change of it is on trial.", id="no trial"),
        pytest.param(without_canary(), "abort", "it has no spec.rollout.canary", id="no canary"),
        pytest.param(owner({**ON_TRIAL, "phase": "Promoting"}), "promote", "is being promoted already.", id="promoting"),
        pytest.param(owner({**ON_TRIAL, "phase": "Promoting"}), "abort", "apply the spec that it had before", id="too late"),
        pytest.param(owner({**ON_TRIAL, "phase": "RolledBack"}), "abort", "rolled back already", id="rolled back"),
    ],
)
def test_an_order_that_makes_no_sense_changes_nothing(seen: Json, verb: str, words: str) -> None:
    cluster = Cluster(seen)
    assert words in cluster.failed(f"rollout {verb} llama")
    assert cluster.patches == []


def test_a_restart_is_followed_to_its_end() -> None:
    cluster = Cluster(happens=[rolls(None, new=0), rolls(None, new=1, there=3), rolls(None)])
    result = cluster.done("restart llama")
    assert cluster.patches == [{"metadata": {"annotations": {"tokenfleet.dev/restarted-at": "2026-03-01T12:02:05Z"}}}]
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["0s", "1s", "2s", "3s"]
    assert result.stderr.splitlines() == ["All engines of default/llama are new ones."]


def test_a_restart_that_is_not_waited_for() -> None:
    result = Cluster().done("restart llama --no-wait")
    assert result.stdout == ""
    assert "Follow it: tokenfleet rollout status llama -n default --watch" in result.stderr


@pytest.mark.parametrize("deployments", [[], [engines(wanted=0, new=0, there=0)]])
def test_where_no_engine_runs_none_is_restarted(deployments: list[Json]) -> None:
    cluster = Cluster(deployments=deployments)
    assert "No engine of default/llama runs" in cluster.done("restart llama").stderr
    assert cluster.patches == []


@pytest.mark.parametrize(
    ("command", "suspended", "patches", "words"),
    [
        pytest.param(
            "suspend", False, [{"spec": {"suspend": True}}], "45 s at most. To have them back: tokenfleet resume", id="on"
        ),
        pytest.param("suspend", True, [], "default/llama is suspended already.", id="on, and was"),
        pytest.param("resume", True, [{"spec": {"suspend": False}}], "Resumed default/llama.", id="off"),
        pytest.param("resume", False, [], "default/llama is not suspended.", id="off, and was"),
    ],
)
def test_suspension(command: str, suspended: bool, patches: list[Json], words: str) -> None:
    cluster = Cluster(owner(suspend=suspended, drain={"timeoutSeconds": 45}))
    assert words in cluster.done(f"{command} llama").stderr
    assert cluster.patches == patches


@pytest.mark.parametrize("line", ["rollout status", "rollout promote", "rollout abort", "restart", "suspend", "resume"])
def test_a_name_that_is_none_changes_nothing(line: str) -> None:
    cluster = Cluster(deployments=[])
    assert cluster.failed(f"{line} lama") == "There is no LLMDeployment lama."
    assert cluster.patches == []


class Unlisted(ClusterOf):
    """A cluster that lets nobody list."""

    def __init__(self) -> None:
        super().__init__(None, namespace="default")

    @property
    def deployments(self) -> ClusterDeployments:
        return ClusterDeployments(self, SimpleNamespace(**dict.fromkeys(_CALLS)), None)

    def call(self, verb: str, thing: Thing, call: Any, *arguments: Any, **options: Any) -> Any:
        raise CliError("You may not.") if verb == "list" else Missing("404")


class Listed(Unlisted):
    def call(self, verb: str, thing: Thing, call: Any, *arguments: Any, **options: Any) -> Any:
        if verb == "list":
            return {"items": [{"metadata": {"name": "b"}}, {"metadata": {"name": "a"}}]}
        raise Missing("404")


class Bare(Unlisted):
    """A cluster of others, where Tokenfleet is not installed."""

    def call(self, verb: str, thing: Thing, call: Any, *arguments: Any, **options: Any) -> Any:
        raise Missing("404")


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        pytest.param(Bare(), "This cluster knows no LLMDeployments: install Tokenfleet", id="no CRD"),
        pytest.param(Unlisted(), "There is no LLMDeployment x in the namespace default: name another", id="no right to list"),
        pytest.param(Listed(), "There is no LLMDeployment x in the namespace default. There are: a, b.", id="others"),
    ],
)
def test_what_is_said_where_there_is_none(cluster: Unlisted, words: str) -> None:
    with pytest.raises(CliError) as read:
        cluster.deployments.get("x")
    with pytest.raises(CliError) as written:
        cluster.deployments.patch("x", {})
    assert str(read.value) == str(written.value)
    assert str(read.value).startswith(words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("rollout --help", "promote", id="rollout"),
        pytest.param("restart --help", "Until all engines are new ones", id="restart"),
        pytest.param("suspend --help", "and keep all else", id="suspend"),
    ],
)
def test_help_teaches(line: str, words: str) -> None:
    assert words in Cluster().done(line).stdout
