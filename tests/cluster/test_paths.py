"""Where things stand, by the environment."""

from pathlib import Path

import pytest

from e2e.cluster import paths
from e2e.cluster.errors import ClusterError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKENFLEET_CACHE", "XDG_CACHE_HOME", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        pytest.param({}, "/home/someone/.cache/tokenfleet", id="the home"),
        pytest.param({"XDG_CACHE_HOME": "/xdg"}, "/xdg/tokenfleet", id="the desktop's cache"),
        pytest.param({"XDG_CACHE_HOME": "/xdg", "TOKENFLEET_CACHE": "/own"}, "/own", id="our own variable wins"),
        pytest.param({"TOKENFLEET_CACHE": "~/here"}, "/home/someone/here", id="a tilde"),
        pytest.param({"TOKENFLEET_CACHE": ""}, "/home/someone/.cache/tokenfleet", id="empty is unset"),
    ],
)
def test_the_cache(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], place: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert paths.cache() == Path(place)


def test_the_kubeconfig_is_our_own_without_a_users() -> None:
    assert paths.user_kubeconfig() is None
    assert paths.kubeconfig() == paths.own_kubeconfig() == Path("/home/someone/.cache/tokenfleet/cluster/kubeconfig")


def test_the_users_kubeconfig_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/their/config")
    assert paths.kubeconfig() == paths.user_kubeconfig() == Path("/their/config")


def test_our_own_kubeconfig_is_no_users_even_if_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(paths.own_kubeconfig()))
    assert paths.user_kubeconfig() is None


def test_several_kubeconfigs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/a:/b")
    with pytest.raises(ClusterError, match="merge them into one"):
        paths.kubeconfig()


def test_no_two_programs_share_a_port() -> None:
    ports = [port for taken in paths.PORTS_OF.values() for port in taken]
    assert len(set(ports)) == len(ports)
    assert all(port < 32768 for port in ports), "above are the ports that the kernel and NodePorts give away"
