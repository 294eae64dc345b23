"""The cluster's addresses and rules, without touching the machine's."""

import json
from pathlib import Path

import pytest

from e2e.cluster import dns, network, paths
from e2e.cluster.errors import ClusterError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKENFLEET_POD_CIDR", "TOKENFLEET_SERVICE_CIDR"):
        monkeypatch.delenv(name, raising=False)


def test_everyone_has_an_address_in_the_right_network() -> None:
    used = network.addresses()
    assert used.node == "10.199.0.1"
    assert used.api_service == "10.199.16.1"
    assert used.dns_service == "10.199.16.10"
    assert not used.pods.overlaps(used.services)
    assert used.pods.num_addresses > 2 * 110, "twice the pods of the node, so that an address is not used again at once"


def test_the_networks_can_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENFLEET_POD_CIDR", "172.30.0.0/24")
    assert network.addresses().node == "172.30.0.1"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param("somewhere", "is not an IPv4 network", id="no network"),
        pytest.param("10.0.0.1/16", "is not an IPv4 network: .* has host bits set", id="an address"),
        pytest.param("fd00::/64", "is not an IPv4 network", id="version 6"),
        pytest.param("10.0.0.0/28", "is too small", id="too small"),
    ],
)
def test_a_network_that_will_not_do(monkeypatch: pytest.MonkeyPatch, value: str, said: str) -> None:
    monkeypatch.setenv("TOKENFLEET_SERVICE_CIDR", value)
    with pytest.raises(ClusterError, match=said):
        network.addresses()


def test_the_rules_replace_themselves_and_guard_every_port_that_listens_beyond_loopback() -> None:
    rules = network.rules(network.addresses())
    assert rules.startswith("table ip tokenfleet\ndelete table ip tokenfleet\n"), "the same whether it was there or not"
    for port in (paths.APISERVER_PORT, paths.KUBELET_PORT, paths.DNS_PORT):
        assert str(port) in rules


def test_the_dns_service_leads_to_the_node() -> None:
    used = network.addresses()
    manifests = {manifest["kind"]: manifest for manifest in dns.manifests(used).values()}
    assert manifests["Service"]["spec"]["clusterIP"] == used.dns_service
    assert manifests["EndpointSlice"]["endpoints"][0]["addresses"] == [used.node]
    assert manifests["EndpointSlice"]["metadata"]["labels"]["kubernetes.io/service-name"] == "kube-dns"
    names = {port["name"] for port in manifests["Service"]["spec"]["ports"]}
    assert names == {port["name"] for port in manifests["EndpointSlice"]["ports"]}


def test_names_outside_are_asked_for_only_where_the_machine_has_a_resolver() -> None:

    used, kubeconfig = network.addresses(), Path("/k")
    assert "forward . /etc/resolv.conf" in dns.corefile(used, kubeconfig=kubeconfig, outside=Path("/etc/resolv.conf"))
    assert "forward" not in dns.corefile(used, kubeconfig=kubeconfig, outside=None)


def test_a_firewall_that_drops_by_default_is_seen() -> None:
    chains = [
        {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"},
        {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "accept"},
        {"family": "ip", "table": "filter", "name": "DOCKER"},
        {"family": "ip6", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"},
        {"family": "inet", "table": "ufw", "name": "in", "hook": "input", "policy": "drop"},
        {"family": "ip", "table": "nat", "name": "PREROUTING", "hook": "prerouting", "policy": "accept"},
    ]
    listing = json.dumps({"nftables": [{"metainfo": {}}, *({"chain": chain} for chain in chains)]})
    assert network.firewalls(listing) == ["ip filter FORWARD", "inet ufw in"]


def test_whose_link_it_is_stands_in_its_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENFLEET_CACHE", "/some/cache")
    assert network.cache_of(network.mark()) == Path("/some/cache")
    assert network.cache_of("a bridge of mine") is None


@pytest.mark.parametrize(
    ("route", "found"),
    [
        pytest.param({"dst": "10.199.0.0/24", "dev": "lo"}, ["10.199.0.0/24 dev lo"], id="a link of someone else's"),
        pytest.param({"dst": "10.199.17.5"}, ["10.199.17.5 dev ?"], id="a route over several links"),
        pytest.param({"dst": "10.199.0.6", "dev": "ours0"}, [], id="a link of ours"),
        pytest.param({"dst": "10.199.0.6", "dev": "if7"}, [], id="a link that is being removed, and has no name any more"),
        pytest.param({"dst": "default", "dev": "lo"}, [], id="the default route"),
        pytest.param({"dst": "192.168.0.0/16", "dev": "lo"}, [], id="another network"),
    ],
)
def test_only_routes_of_others_that_lead_into_our_networks_are_in_the_way(route: dict[str, str], found: list[str]) -> None:
    assert network.overlapping([route], network.addresses(), ours={"ours0"}) == found
