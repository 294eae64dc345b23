"""The machine's side of the cluster's network: one link, one nft table, and the kernel settings that are put back.

`tokenfleet0` carries the node's address, which so depends on no network card; pods hang on point-to-point links of their
own (CNI's ptp), so that every packet between them is routed, and a Service works between two pods of one node without
changing the kernel's bridge settings for everybody. Services are reached from the machine too, by a route to that link.
"""

import ipaddress
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from e2e.cluster import packages, paths
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import boot, wait_until

Network = ipaddress.IPv4Network
TABLE: Final = "tokenfleet"
_MARK: Final = "tokenfleet cluster in "
PROXY_TABLES: Final = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))
_SETTINGS: Final = (
    "net/ipv4/ip_forward",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
"""What we, CNI's plugins and the kubelet change."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The two networks, and who has which address in them."""

    pods: Network
    services: Network

    @property
    def node(self) -> str:
        return str(self.pods[1])

    @property
    def api_service(self) -> str:
        return str(self.services[1])

    @property
    def dns_service(self) -> str:
        return str(self.services[10])


def addresses() -> Addresses:
    return Addresses(_network("TOKENFLEET_POD_CIDR", "10.199.0.0/22"), _network("TOKENFLEET_SERVICE_CIDR", "10.199.16.0/20"))


def ensure(used: Addresses) -> None:
    """Bring up the link, its route and its rules. May run any number of times."""
    _save_settings()
    if owner(paths.LINK_NAME) is None:
        _ip("link", "add", paths.LINK_NAME, "type", "bridge")
        _ip("link", "set", paths.LINK_NAME, "alias", mark())
    _ip("link", "set", paths.LINK_NAME, "up")
    _ip("address", "replace", f"{used.node}/32", "dev", paths.LINK_NAME)
    _ip("route", "replace", str(used.services), "dev", paths.LINK_NAME, "src", used.node)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    _nft(rules(used))


def rules(used: Addresses) -> str:
    """Pods reach the world under the machine's address; the world does not reach the cluster's own ports."""
    ports = f"{paths.APISERVER_PORT}, {paths.KUBELET_PORT}, {paths.DNS_PORT}"
    return f"""\
table ip {TABLE}
delete table ip {TABLE}
table ip {TABLE} {{
  chain outbound {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {used.pods} ip daddr != {{ {used.pods}, {used.services} }} masquerade
  }}
  chain inbound {{
    type filter hook input priority filter; policy accept;
    iifname "lo" accept
    ip saddr != {used.pods} tcp dport {{ {ports} }} drop
    ip saddr != {used.pods} udp dport {paths.DNS_PORT} drop
  }}
}}
"""


def remove(used: Addresses) -> None:
    """Take away what `ensure`, the pods and kube-proxy have made, and put the kernel's settings back."""
    wait_until(lambda: not pod_links(used), seconds=5.0)  # they go with their namespaces, a moment after the last process
    for link in pod_links(used):
        _ip("link", "delete", link, check=False)
    if owner(paths.LINK_NAME) == mark():
        _ip("link", "delete", paths.LINK_NAME)
    tables = [("ip", TABLE), *(PROXY_TABLES if proxy_tables_are_ours() else ())]
    for family, name in tables:
        if (family, name) in nft_tables():
            _nft(f"delete table {family} {name}\n")
    _proxy_mark().unlink(missing_ok=True)
    _restore_settings()


def mark() -> str:
    """Stands on the link, so that it is known whose it is."""
    return f"{_MARK}{paths.cluster()}"


def owner(link: str) -> str | None:
    """The alias of a link: empty where it has none, None where there is no such link."""
    if packages.find("ip") is None:
        return None
    links = json.loads(_ip("-j", "link", "show") or "[]")
    return next((each.get("ifalias", "") for each in links if each.get("ifname") == link), None)


def foreign_cache() -> Path | None:
    """The other cache whose cluster has the link, where there is one."""
    alias = owner(paths.LINK_NAME) or ""
    return None if alias == mark() else cache_of(alias)


def cache_of(alias: str) -> Path | None:
    """The cache of the cluster that marked a link so."""
    return Path(alias.removeprefix(_MARK)).parent if alias.startswith(_MARK) else None


def pod_links(used: Addresses) -> list[str]:
    """The machine's ends of the pods' links: each has the route to one pod's address."""
    return [
        route["dev"]
        for route in _routes()
        if route["dst"] != "default"
        and Network(route["dst"], strict=False).subnet_of(used.pods)
        and route.get("dev", paths.LINK_NAME) != paths.LINK_NAME
    ]


def collisions(used: Addresses) -> list[str]:
    """Routes of the machine, not ours, that lead into one of the cluster's networks."""
    ours = {paths.LINK_NAME, *pod_links(used)} if owner(paths.LINK_NAME) == mark() else set()
    return overlapping(_routes(), used, ours=ours)


def overlapping(routes: Sequence[dict[str, Any]], used: Addresses, *, ours: set[str]) -> list[str]:
    """Those of the routes, of links that are not `ours`, that lead into one of the cluster's networks."""
    found = []
    for route in routes:
        if route["dst"] == "default" or route.get("dev") in ours or _is_going(route):
            continue
        target = Network(route["dst"], strict=False)
        if target.overlaps(used.pods) or target.overlaps(used.services):
            found.append(f"{route['dst']} dev {route.get('dev', '?')}")
    return found


def _is_going(route: dict[str, Any]) -> bool:
    """Its link was removed a moment ago, with a pod's network namespace: `ip` calls it if7, and the kernel drops it soon."""
    return "dev" in route and not Path("/sys/class/net", route["dev"]).exists()


def nft_tables() -> set[tuple[str, str]]:
    answer = subprocess.run([packages.program("nft"), "-j", "list", "tables"], capture_output=True, check=False)
    if answer.returncode != 0:
        raise ClusterError(f"nft does not work here ({answer.stderr.decode().strip()}): the cluster needs nf_tables.")
    entries = json.loads(answer.stdout)["nftables"]
    return {(entry["table"]["family"], entry["table"]["name"]) for entry in entries if "table" in entry}


def firewalls(listing: str | None = None) -> list[str]:
    """Chains of others that drop what nobody has allowed: an accept of ours cannot overrule them."""
    if listing is None:
        listing = _run([packages.program("nft"), "-j", "list", "chains"])
    chains = [entry["chain"] for entry in json.loads(listing)["nftables"] if "chain" in entry]
    return [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("policy") == "drop" and chain.get("hook") in ("forward", "input") and chain["family"] in ("ip", "inet")
    ]


def claim_proxy_tables() -> None:
    """Remember that kube-proxy's tables of this boot are our kube-proxy's."""
    _proxy_mark().write_text(boot())


def proxy_tables_are_ours() -> bool:
    return _proxy_mark().is_file() and _proxy_mark().read_text() == boot()


def _proxy_mark() -> Path:
    return paths.state() / "kube-proxy-tables"


def _network(variable: str, default: str) -> Network:
    value = os.environ.get(variable, default)
    try:
        network = Network(value)
    except ValueError as error:
        raise ClusterError(f"{variable}={value} is not an IPv4 network: {error}.") from error
    if network.prefixlen > 24:
        raise ClusterError(f"{variable}={value} is too small: it must be a /24 or wider.")
    return network


def _routes() -> list[dict[str, Any]]:
    routes: list[dict[str, Any]] = json.loads(_ip("-j", "-4", "route", "show", "table", "main"))
    return routes


def _saved() -> Path:
    return paths.state() / "kernel-settings.json"


def _save_settings() -> None:
    """Once per boot, before anything is changed."""
    if _saved().is_file() and json.loads(_saved().read_text())["boot"] == boot():
        return
    files = ((name, Path("/proc/sys") / name) for name in _SETTINGS)
    values = {name: file.read_text().strip() for name, file in files if file.exists()}
    paths.state().mkdir(parents=True, exist_ok=True)
    _saved().write_text(json.dumps({"boot": boot(), "values": values}))


def _restore_settings() -> None:
    if not _saved().is_file():
        return
    saved = json.loads(_saved().read_text())
    for name, value in saved["values"].items() if saved["boot"] == boot() else ():
        file = Path("/proc/sys") / name
        if file.read_text().strip() != value:
            file.write_text(value)
    _saved().unlink()


def _ip(*arguments: str, check: bool = True) -> str:
    return _run([packages.program("ip"), *arguments], check=check)


def _nft(script: str) -> None:
    _run([packages.program("nft"), "-f", "-"], text=script)


def _run(command: Sequence[str], *, text: str = "", check: bool = True) -> str:
    answer = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if check and answer.returncode != 0:
        raise ClusterError(f"`{' '.join(command)}` failed: {answer.stderr.strip()}")
    return answer.stdout
