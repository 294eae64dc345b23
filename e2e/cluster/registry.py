"""A registry for images on loopback: plain HTTP, storage in the cache. It outlives `down` as files, not as a process.

The cluster's containerd pulls from it, so that only changed layers move. Whoever pushes starts it first:

    registry.start()
    push(f"{registry.address()}/tokenfleet/operator:{tag}")
"""

import os
from pathlib import Path

import httpx

from e2e.cluster import cgroups, configuration, daemons, locks, packages, paths, ports
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import Command, Daemon


def address() -> str:
    """Where images are pushed to and pulled from: the first part of their names."""
    return f"127.0.0.1:{paths.REGISTRY_PORT}"


def start() -> None:
    """Have it running, started here or before; returns when it answers."""
    if os.geteuid() != 0:
        raise ClusterError("the local image registry belongs to the cluster, which root runs: use `sudo`.")
    packages.ensure("docker-registry")
    with locks.held(paths.cache() / "registry.lock"):
        _configure()
        own = daemon()
        if own.current() and answers():
            return
        own.stop()
        ports.claim({paths.REGISTRY_PORT: "the image registry"})
        cgroups.ensure()
        own.start()
        daemons.await_ready(own, answers, seconds=10)


def answers() -> bool:
    try:
        return httpx.get(f"http://{address()}/v2/", timeout=1.0, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def daemon() -> Daemon:
    command = Command("registry", (packages.program("docker-registry"), "serve", str(_config())), files=(_config(),))
    return daemons.own(command)


def _config() -> Path:
    return paths.state() / "registry.yaml"


def _configure() -> None:
    paths.registry_storage().mkdir(parents=True, exist_ok=True)
    paths.state().mkdir(parents=True, exist_ok=True)
    configuration.write(
        _config(),
        f"""\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {paths.registry_storage()}}}
  delete: {{enabled: true}}
http: {{addr: "{address()}"}}
""",
    )
