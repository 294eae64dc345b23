"""Completion of shells: names of LLMDeployments from the cluster, and the words that kubectl asks its plugin for.

Whoever presses Tab waits: after a second, and on any failure, there is nothing to offer, and nothing is said.
"""

import contextlib
import os
import shlex
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tokenfleet import contract
from tokenfleet.cli.cluster.connection import Thing, connect
from tokenfleet.cli.options import Place

_SECONDS: Final = 1.0
_NO_FILES: Final = ":4"
"""As cobra tells a shell not to offer files instead (ShellCompDirectiveNoFileComp)."""


def deployment_names(chosen: Mapping[str, Any], incomplete: str, *, seconds: float = _SECONDS) -> list[str]:
    """chosen: the options that stand on the command line already."""
    found: list[str] = []

    def look() -> None:
        with contextlib.suppress(Exception):  # whatever it is, nobody asked for words
            found.extend(_read(_place(chosen)))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(seconds)
    return sorted(name for name in tuple(found) if name.startswith(incomplete))


def _place(chosen: Mapping[str, Any]) -> Place:
    file = chosen.get("kubeconfig")
    return Place(chosen.get("namespace"), chosen.get("kube_context"), Path(file) if file else None)


def _read(place: Place) -> list[str]:
    cluster = connect(place)
    path = f"/apis/{contract.GROUP}/{contract.VERSION}/namespaces/{cluster.namespace}/{contract.PLURAL}"
    thing = Thing("the LLMDeployments", rights=f"list {contract.PLURAL}.{contract.GROUP}")
    return [str(item["metadata"]["name"]) for item in cluster.read(path, thing)["items"]]


def kubectl_complete() -> None:
    """The program kubectl_complete-llm: kubectl runs it with the words after `kubectl llm`, the last one unfinished."""
    from tokenfleet.cli.main import app

    words = ["kubectl-llm", *(sys.argv[1:] or [""])]
    os.environ |= {
        "_KUBECTL_LLM_COMPLETE": "complete_bash",
        "COMP_WORDS": shlex.join(words[:-1]) + f" {words[-1]}",
        "COMP_CWORD": str(len(words) - 1),
    }
    with contextlib.suppress(Exception, SystemExit):
        app(prog_name="kubectl llm", complete_var="_KUBECTL_LLM_COMPLETE")
    sys.stdout.write(f"{_NO_FILES}\n")
    sys.stdout.flush()
    os._exit(0)  # a look at a cluster that does not answer may still be under way
