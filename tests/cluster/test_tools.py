"""What decides whether a tool is built anew, and which Go will do."""

from pathlib import Path

import pytest

from e2e.cluster import go, paths, tools
from e2e.cluster.errors import ClusterError
from e2e.cluster.tools import Module


@pytest.mark.parametrize(
    ("version", "will_do"),
    [
        pytest.param("go1.26.8", True, id="newer"),
        pytest.param("go1.25", True, id="the oldest that will do"),
        pytest.param("go1.25rc1", True, id="a release candidate"),
        pytest.param("go2.0", True, id="the next major"),
        pytest.param("go1.24.9", False, id="too old"),
        pytest.param("go1.9", False, id="a number, not a text: 9 is less than 24"),
        pytest.param("", False, id="no answer"),
    ],
)
def test_which_go_will_do(version: str, will_do: bool) -> None:
    assert go.recent_enough(version) is will_do


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "go.mod").write_text("module a")
    (tmp_path / "some" / "go.sum").write_text("sum")
    monkeypatch.setattr(tools, "_HERE", tmp_path)
    return Module("some", {"program": "example.org/cmd/program"})


def test_the_key_stays_while_nothing_changes(module: Module) -> None:
    assert module.key("go1.26") == module.key("go1.26")
    assert module.key("go1.26").startswith("some-")


def test_every_input_changes_the_key(module: Module, tmp_path: Path) -> None:
    keys = [module.key("go1.26"), module.key("go1.27"), Module("some", module.packages, linker="-s").key("go1.26")]
    for name in ("go.mod", "go.sum"):
        (tmp_path / "some" / name).write_text(f"another {name}")
        keys.append(module.key("go1.26"))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("package", "binary"),
    [
        pytest.param("k8s.io/kubernetes/cmd/kubelet", "kubelet", id="the last element"),
        pytest.param("go.etcd.io/etcd/server/v3", "server", id="a major version is no name"),
        pytest.param("helm.sh/helm/v3/cmd/helm", "helm", id="a version in the middle"),
        pytest.param("example.org/v8engine", "v8engine", id="a name that starts like a version"),
    ],
)
def test_what_the_compiler_calls_its_result(package: str, binary: str) -> None:
    assert tools._binary(package) == binary


def test_every_tool_has_one_place() -> None:
    assert len({paths.tool(name) for name in tools.ALL}) == len(tools.ALL)
    assert paths.tool("etcd").name == "etcd"


def test_an_unknown_tool_is_refused_with_those_there_are() -> None:
    with pytest.raises(ClusterError, match="no tool called kubeadm: the cluster builds coredns, etcd"):
        paths.tool("kubeadm")
