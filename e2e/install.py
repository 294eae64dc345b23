"""Install Tokenfleet into the cluster at hand by its Helm chart, as a user would."""

import subprocess
from pathlib import Path

from e2e.cluster import paths
from e2e.cluster.images import Images

CHART = Path(__file__).parent.parent / "charts" / "tokenfleet"
RELEASE = "tokenfleet"
NAMESPACE = "tokenfleet-system"


class HelmError(Exception):
    """helm ended with an error; the message is what it printed."""


def helm(*arguments: str, timeout: float = 300) -> str:
    """Run `helm ARGUMENTS` on the cluster at hand and return what it printed; raises HelmError."""
    command = [str(paths.tool("helm")), "--kubeconfig", str(paths.kubeconfig()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise HelmError(f"helm {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def install(images: Images, *settings: str, replicas: int = 1) -> None:
    """Install or upgrade the release, and wait until its pods are ready. `settings` are further `key=value` of --set."""
    repository, _, tag = images.operator.rpartition(":")
    values = {
        "image.repository": repository,
        "image.tag": tag,
        "engine.cpuImage": images.engine_cpu,
        "replicas": str(replicas),
    }
    flags = [f"--set-string={key}={value}" for key, value in values.items() if key != "replicas"]
    flags += [f"--set=replicas={replicas}", *(f"--set={setting}" for setting in settings)]
    helm(
        *("upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--create-namespace"),
        *flags,
        *("--wait", "--timeout", "180s"),
    )


def uninstall() -> None:
    """Remove the release; its CRD and the user's LLMDeployments stay, as the chart promises."""
    helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait")
