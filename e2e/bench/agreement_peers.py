"""The load tests that ours is held against, each run as its users run it, with its figures under our names. Seconds.

`vllm bench serve` comes from the engine's image (a pod of the local cluster, or the Python that one names), guidellm from PyPI
into an environment of its own. Where a peer means something else by a name, the translation says so:

- guidellm's inter-token latency is (last token - first token) / (tokens - 1) of a request, weighted by tokens: our tpot.
- guidellm's request latency lasts until the stream has ended, ours and vLLM's until the last token: 0.1 ms.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from e2e.bench import router_software
from e2e.bench.engines import NAMESPACE
from e2e.cluster import images, paths
from e2e.kubectl import Kubectl, KubectlError, wait_for
from e2e.model.objects import MODEL, USER

Figures = Mapping[str, float]
VLLM, GUIDELLM, OURS = "vllm", "guidellm", "ours"
_SECONDS: Final = 600.0
_POD: Final = "judge"
_EVENLY: Final = 1_000_000
"""Of `vllm bench serve --burstiness`: gamma distributed gaps of this shape are as good as equal."""
_VLLM_PROGRAM: Final = """
import contextlib, json, sys, tempfile
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
with tempfile.NamedTemporaryFile(suffix=".json") as file:
    given = [*sys.argv[1:], "--save-result", "--result-filename", file.name]
    with contextlib.redirect_stdout(sys.stderr):
        main(parser.parse_args(given))
    print(open(file.name).read())
"""
"""`vllm bench serve`, without what its command line loads for the other commands."""


class BadPeer(RuntimeError):
    """A load test did not do what it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The same for all."""

    name: str
    requests: int
    input_tokens: int
    output_tokens: int
    concurrency: int | None = None
    rate: float | None = None
    """Requests a second, evenly: by chance, each tool would draw other arrivals, and measure another load."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The server, its model, and where a tokenizer of it is."""

    url: str
    model: str


Measure = Callable[[Subject, Workload, int], Figures]
"""With a seed."""
Execute = Callable[[Sequence[str]], str]
"""Runs a Python of vLLM with these arguments; gives its stdout."""


def ours(subject: Subject, work: Workload, seed: int) -> Figures:
    """In a process of its own, as the others."""
    load = (
        ("--concurrency", work.concurrency) if work.concurrency is not None else ("--rate", work.rate, "--arrivals", "constant")
    )
    said = _run(
        [
            *(sys.executable, "-c", "from tokenfleet.cli.main import app; app()", "bench", "run", subject.url, "--json"),
            *("--model", subject.model, "--requests", str(work.requests), *map(str, load), "--seed", str(seed)),
            *("--input", str(work.input_tokens), "--output", str(work.output_tokens), "--warmup", "0"),
        ]
    )
    summary = json.loads(said.splitlines()[-1])["summary"]
    _whole(summary["ok"], work)
    return {name: summary[name]["mean"] for name in ("ttft", "tpot", "itl", "e2e")} | {
        "request_throughput": summary["requestsPerSecond"],
        "output_throughput": summary["outputTokensPerSecond"],
    }


def vllm(execute: Execute, tokenizer: str) -> Measure:
    def measure(subject: Subject, work: Workload, seed: int) -> Figures:
        load = (
            ("--max-concurrency", work.concurrency)
            if work.concurrency is not None
            else ("--request-rate", work.rate, "--burstiness", _EVENLY)
        )
        said = execute(
            [
                *("-c", _VLLM_PROGRAM, "--backend", "vllm", "--base-url", subject.url, "--model", subject.model),
                *("--tokenizer", tokenizer, "--dataset-name", "random", "--num-prompts", str(work.requests), *map(str, load)),
                *("--random-input-len", str(work.input_tokens), "--random-output-len", str(work.output_tokens)),
                *("--ignore-eos", "--temperature", "0", "--seed", str(seed), "--disable-tqdm"),
                *("--percentile-metrics", "ttft,tpot,itl,e2el"),
            ]
        )
        result = json.loads(said.splitlines()[-1])
        _whole(result["completed"], work)
        names = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e": "e2el"}
        return {name: result[f"mean_{theirs}_ms"] / 1000 for name, theirs in names.items()} | {
            name: result[name] for name in ("request_throughput", "output_throughput")
        }

    return measure


def guidellm(tokenizer: str) -> Measure:
    router_software.install(GUIDELLM)
    program = router_software.binary(GUIDELLM, "guidellm")

    def measure(subject: Subject, work: Workload, seed: int) -> Figures:
        profile = (
            f"kind=concurrent,streams={work.concurrency}" if work.concurrency is not None else f"kind=constant,rate={work.rate}"
        )
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "result.json"
            _run(
                [
                    *(program, "run", "--profile", profile, "--constraint", f"kind=max_requests,count={work.requests}"),
                    *(
                        "--backend",
                        f"kind=openai_http,target={subject.url},model={subject.model},request_format=/v1/completions",
                    ),
                    *("--tokenizer", f"kind=huggingface_auto,model={tokenizer}", "--seed", f"kind=static,value={seed}"),
                    *("--data", f"kind=synthetic_text,prompt_tokens={work.input_tokens},output_tokens={work.output_tokens}"),
                    *("--output", f"kind=json,path={result}", "--disable-console"),
                ],
                GUIDELLM__MAX_WORKER_PROCESSES="1",
            )
            (found,) = json.loads(result.read_text())["benchmarks"]
        metrics = {name: metric["successful"] for name, metric in found["metrics"].items() if _told(metric)}
        _whole(metrics["request_latency"]["count"], work)
        return {
            "ttft": metrics["time_to_first_token_ms"]["mean"] / 1000,
            "tpot": metrics["inter_token_latency_ms"]["mean"] / 1000,
            "e2e": metrics["request_latency"]["mean"],
            "request_throughput": work.requests / found["duration"],
            "output_throughput": metrics["output_token_count"]["total_sum"] / found["duration"],
        }

    return measure


def by_python(python: str) -> Execute:
    """vLLM of this machine."""
    return lambda arguments: _run([python, *arguments], VLLM_NO_USAGE_STATS="1", OMP_NUM_THREADS="1")


@contextmanager
def in_pod(namespace: str = NAMESPACE, *, image: str | None = None) -> Iterator[tuple[Execute, str]]:
    """vLLM in a pod beside the engine, of the same image; and where the tokenizer is there. The claim of models is there."""
    kubectl = Kubectl(namespace)
    kubectl.delete("pod", _POD)
    kubectl.apply(_pod(image or images.ensure().engine_cpu))
    try:
        wait_for("the pod of vLLM's load test", lambda: _runs(kubectl), timeout=_SECONDS)
        yield (
            lambda arguments: kubectl("exec", _POD, "--", "python3", *arguments, timeout=_SECONDS),
            f"/models/{MODEL.name}",
        )
    finally:
        kubectl.delete("pod", _POD, wait=False)


def here() -> str:
    """Where the tokenizer is on this machine."""
    return str((paths.cache() / "models" / MODEL.name).resolve())


def _pod(image: str) -> dict[str, Any]:
    container = {
        "name": "vllm",
        "image": image,
        "command": ["sleep", "infinity"],
        "resources": {"requests": {"cpu": "1"}},  # Else the engine's threads go before it, and its moments are late.
        "env": [{"name": "VLLM_NO_USAGE_STATS", "value": "1"}, {"name": "OMP_NUM_THREADS", "value": "1"}],
        "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    claim = {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}
    user = {"runAsNonRoot": True, "runAsUser": USER, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "volumes": [claim], "terminationGracePeriodSeconds": 0, "securityContext": user}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": _POD}, "spec": spec}


def _runs(kubectl: Kubectl) -> bool:
    pod = kubectl.get("pod", _POD)
    if pod is None:
        raise KubectlError(f"the pod {kubectl.namespace}/{_POD} is gone")
    return bool((pod.get("status") or {}).get("phase") == "Running")


def _run(argv: Sequence[str], **environment: str) -> str:
    answer = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=_SECONDS, env={**os.environ, **environment}
    )  # fmt: skip
    if answer.returncode != 0:
        lines = "\n".join(answer.stderr.strip().splitlines()[-15:])
        raise BadPeer(f"{Path(argv[0]).name} ended with {answer.returncode}:\n{lines}")
    return answer.stdout


def _whole(done: int, work: Workload) -> None:
    if done != work.requests:
        raise BadPeer(f"{done} of {work.requests} requests got a whole answer")


def _told(metric: object) -> bool:
    return isinstance(metric, dict) and isinstance(metric.get("successful"), dict)
