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

from e2e.cluster import cluster, images, status, tools
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
        print("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _up(parsed: argparse.Namespace) -> int:
    cluster.up(gpus=parsed.gpus)
    return 0


def _down(parsed: argparse.Namespace) -> int:
    cluster.down()
    return 0


def _status(parsed: argparse.Namespace) -> int:
    found = status.look()
    print(json.dumps(found.as_json(), indent=2) if parsed.json else "\n".join(status.lines(found)))
    return 0 if found.healthy else 1


def _clean(parsed: argparse.Namespace) -> int:
    cluster.clean()
    return 0


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
    up = _command(
        commands, "up", _up, "start the cluster, or whatever of it does not run",
        """
        Installs missing Debian packages, builds what is missing (minutes, once), and starts etcd, Kubernetes, CoreDNS,
        containerd and an image registry, all of them its own: an existing containerd or kubelet is not touched. Returns
        when the node is ready and names and Services answer. Run it again at any time: it starts what does not run, be
        it after a crash, a kill -9 or a reboot, and objects and pods are as they were.

        With KUBECONFIG set it starts nothing: it checks that cluster, and everything else runs against it.

        Everything is kept below ${TOKENFLEET_CACHE:-${XDG_CACHE_HOME:-~/.cache}/tokenfleet}. TOKENFLEET_POD_CIDR and
        TOKENFLEET_SERVICE_CIDR move its networks (10.199.0.0/22 and 10.199.16.0/20) where they collide with yours.
        """,
    )  # fmt: skip
    up.add_argument(
        "--gpus", type=int, metavar="N", help="make the node claim N GPUs (nvidia.com/gpu), so that pods are scheduled"
    )
    _command(
        commands, "down", _down, "end the cluster and leave no trace of it outside of the cache",
        """
        Ends every process and pod, and takes away network links, nft tables, control groups and files, until the machine
        is as it was before `up`. The cluster's objects are gone; images, tools and logs stay in the cache. A cluster of
        your own (KUBECONFIG) is left as it is.
        """,
    )  # fmt: skip
    state = _command(
        commands, "status", _status, "say whether the cluster is healthy, and where everything is",
        """
        Looks only. Exits with 0 when the cluster is healthy, with 1 when it is not.
        """,
    )  # fmt: skip
    state.add_argument("--json", action="store_true", help="for scripts: kubeconfig, registry, audit_log, node, processes, …")
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
    _command(
        commands, "clean", _clean, "down, and delete the tools, images and everything else that is cached",
        """
        What `down` does, and then removes all of ours from the cache: the next `up` builds for minutes. Go's own cache of
        compiled packages is not ours and stays.
        """,
    )  # fmt: skip
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, run: Run, summary: str, text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=summary, description=textwrap.dedent(text).strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.set_defaults(run=run)
    return command


if __name__ == "__main__":
    sys.exit(main())
