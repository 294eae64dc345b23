"""A cluster that the user brought by KUBECONFIG: looked at, never started, never stopped."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.cluster import paths, tools
from e2e.cluster.errors import ClusterError

_NEEDED: Final = (
    ("create", "namespaces"),
    ("create", "customresourcedefinitions.apiextensions.k8s.io"),
    ("create", "clusterroles.rbac.authorization.k8s.io"),
)


@dataclass(frozen=True, slots=True)
class Cluster:
    kubeconfig: Path
    context: str
    server: str
    version: str


def look(kubeconfig: Path) -> Cluster:
    """Which cluster it is; an error where it cannot be reached or does not let us install things."""
    tools.ensure(*tools.CLIENTS)
    if not kubeconfig.is_file():
        raise ClusterError(f"KUBECONFIG names {kubeconfig}, and there is no such file: unset it to use a local cluster.")
    view = json.loads(_kubectl(kubeconfig, "config", "view", "--minify", "--output=json"))
    version = json.loads(_kubectl(kubeconfig, "version", "--output=json"))
    for verb, resource in _NEEDED:
        if _can(kubeconfig, verb, resource) != "yes":
            raise ClusterError(
                f"the user of KUBECONFIG={kubeconfig} may not {verb} {resource}: use an administrator's kubeconfig, "
                "or unset it to use a local cluster."
            )
    server = view["clusters"][0]["cluster"]["server"]
    return Cluster(kubeconfig, view["current-context"], server, version["serverVersion"]["gitVersion"])


def _can(kubeconfig: Path, verb: str, resource: str) -> str:
    command = [*_command(kubeconfig), "auth", "can-i", verb, resource, "--all-namespaces"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _kubectl(kubeconfig: Path, *arguments: str) -> str:
    answer = subprocess.run([*_command(kubeconfig), *arguments], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ClusterError(
            f"the cluster of KUBECONFIG={kubeconfig} cannot be used ({reason}): put that right, or unset KUBECONFIG to use "
            "a local cluster."
        )
    return answer.stdout


def _command(kubeconfig: Path) -> list[str]:
    return [str(paths.tool("kubectl")), f"--kubeconfig={kubeconfig}", "--request-timeout=10s"]
