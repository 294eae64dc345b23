"""`python -m e2e.cluster COMMAND`: the local cluster from the command line. Each command's --help says what it does."""

import argparse
import dataclasses
import json
import shutil
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from e2e.cluster import images, tools
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.errors import ClusterError
from e2e.cluster.progress import say, step

Run = Callable[[argparse.Namespace], int]


def main(arguments: list[str] | None = None) -> int:
    parsed = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # so that what must be put back is put back
    run: Run = parsed.run
    try:
        return run(parsed)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _build(parsed: argparse.Namespace) -> int:
    tools.ensure(*(parsed.tool or tools.ALL))
    for name in parsed.tool or tools.ALL:
        print(tools.path(name))
    return 0


def _control_plane(parsed: argparse.Namespace) -> int:
    directory = parsed.directory or Path(tempfile.mkdtemp(prefix="tokenfleet-control-plane-"))
    try:
        with step("Starting etcd and kube-apiserver"):
            plane = ControlPlane.start(directory)
        with plane:
            print(plane.kubeconfig, flush=True)
            say(f"The API answers at {plane.layout.server}; audit log: {plane.audit_log}. Ctrl-C ends it.")
            signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        if parsed.directory is None:
            shutil.rmtree(directory, ignore_errors=True)
    return 0


def _images(parsed: argparse.Namespace) -> int:
    built = images.ensure()
    if parsed.json:
        print(json.dumps(dataclasses.asdict(built)))
    else:
        print(f"operator    {built.operator}\nengine-cpu  {built.engine_cpu}")
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.cluster",
        description="A real Kubernetes on this machine, without Docker, for demos and tests.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    build = _command(
        commands, "build", _build, "build the cluster's programs, start nothing",
        """
        Compiles what is missing of etcd, Kubernetes, CoreDNS and Helm from Go modules, into the cache that all checkouts
        share, and prints where each program stands. Cold, it takes about eight minutes on two cores.
        """,
    )  # fmt: skip
    build.add_argument("tool", nargs="*", metavar="TOOL", help=f"only these ({', '.join(sorted(tools.ALL))})")
    image = _command(
        commands, "images", _images, "build the images of operator and CPU engine that are missing",
        """
        Builds operator/Dockerfile and engine/Dockerfile.cpu with buildah on a local Debian base, pushes them to the cluster's
        registry on loopback, and prints their names. A tag is the hash of what goes in, so what is there is not built again.
        The first time takes about eight minutes and 24 GB of disk. For a cluster of your own (KUBECONFIG), set
        TOKENFLEET_REGISTRY to where they may be pushed, or TOKENFLEET_OPERATOR_IMAGE and TOKENFLEET_ENGINE_CPU_IMAGE to
        where they are.
        """,
    )  # fmt: skip
    image.add_argument("--json", action="store_true", help='print {"operator": …, "engine_cpu": …}')
    plane = _command(
        commands, "control-plane", _control_plane, "run etcd and kube-apiserver alone, until Ctrl-C",
        """
        An API server without nodes or controllers, as tests/integration uses it: ready in a few seconds, on a free port
        of 127.0.0.1, beside a running cluster and beside others of its kind, without root. Prints the path of its
        kubeconfig on standard output.
        """,
    )  # fmt: skip
    plane.add_argument("--directory", type=Path, help="where its files go (default: a temporary one, removed at the end)")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, run: Run, summary: str, text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=textwrap.dedent(text).strip())
    command.set_defaults(run=run)
    return command


if __name__ == "__main__":
    sys.exit(main())
