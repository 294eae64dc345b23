"""The command `profile phases`: start an engine, measure it by a plan, write the report.

The order of one run, and what it leaves: profile.json first, so that nothing measured is lost to a plot. Exit code 1 where not
one point could be measured in its time.
"""

import argparse
import datetime
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenfleet_engine.launch import command
from tokenfleet_engine.launch.model_files import Model, inspect_model
from tokenfleet_engine.profiling import findings, page, plots, starting, tables
from tokenfleet_engine.profiling.measure import Measurement
from tokenfleet_engine.profiling.output import make_directory, progress
from tokenfleet_engine.profiling.plan import make_plan
from tokenfleet_engine.profiling.vllm_engine import VllmEngine


def run(given: argparse.Namespace, flags: Sequence[str]) -> int:
    began = time.monotonic()
    say = progress(began)
    build = command.find_build()
    starting.check_flags(flags)
    model = inspect_model(given.model, weights="dummy" not in "=".join(flags), tokenizer="--skip-tokenizer-init" not in flags)
    make_directory(given.out)
    with starting.stdout_for_us(), starting.explained():
        starting.prepare_environment(os.environ, cpu=build.cpu)
        all_flags = starting.all_flags(
            flags, model=str(model.path), cpu=build.cpu, compiler=shutil.which("g++") is not None,
            cache_chosen=bool(os.environ.get("VLLM_CPU_KVCACHE_SPACE")),
        )  # fmt: skip
        say(f"vLLM {build.version} loads {model.path}, {tables.size(model.weight_bytes)}")
        engine = starting.start(all_flags, clock=time.perf_counter)
        load_seconds = time.monotonic() - began
        say(f"loaded; {engine.device.name}")
        plan = make_plan(
            engine.limits, prompts=given.prompt_tokens, batches=given.batch, contexts=given.context,
            repeat=given.repeat, decode_steps=given.decode_steps,
        )  # fmt: skip
        around = _circumstances(engine, model, given=given, flags=flags, load_seconds=load_seconds, vllm=build.version)
        measured = Measurement(
            engine=engine, plan=plan, clock=time.monotonic, say=say, all_seconds=given.max_seconds,
            point_seconds=given.point_seconds,
        ).run()  # fmt: skip
    report = findings.build_findings(measured, around)
    say(f"writes {given.out}")
    write_report(report, given.out, say=say)
    print(json.dumps(report, indent=1) if given.json else render_text(report), flush=True)
    return 0 if report["prefill"] or report["decode"] else 1


def _circumstances(
    engine: VllmEngine, model: Model, *, given: argparse.Namespace, flags: Sequence[str], load_seconds: float, vllm: str
) -> findings.Circumstances:
    import torch

    device = engine.device
    settings = ("prompt_tokens", "batch", "context", "repeat", "decode_steps", "max_seconds", "point_seconds")
    return findings.Circumstances(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions={"vLLM": vllm, "torch": str(torch.__version__), "Python": sys.version.split()[0]},
        device={"kind": device.kind, "name": device.name, "synchronisation": device.synchronisation},
        model={
            "name": model.path.name, "path": str(model.path), "architecture": model.architecture,
            "context_tokens": model.context_tokens, "weight_bytes": model.weight_bytes,
        },
        engine={**engine.facts(), "flags": list(flags), "load_seconds": load_seconds},
        settings={name: getattr(given, name) for name in settings},
        limits=engine.limits,
        loaded=engine.memory(),
        loaded_weight_bytes=engine.loaded_weight_bytes(),
    )  # fmt: skip


def write_report(report: dict[str, Any], out: Path, *, say: Callable[[str], None]) -> None:
    """profile.json, report.html and, where matplotlib is, the plots."""
    (out / "profile.json").write_text(json.dumps(report, indent=1) + "\n")
    without = "" if plots.available() else "Without plots: this Python has no matplotlib (the engine images have it)."
    if without:
        say(without)
    drawn = {} if without else plots.draw(report, out)
    (out / "report.html").write_text(page.build_page(report, plots=drawn, without_plots=without), encoding="utf-8")


def render_text(report: dict[str, Any]) -> str:
    """All of it for a terminal."""
    pairs = tables.facts(report)
    width = max(len(name) for name, _ in pairs)
    head = [f"Profile of {report['model']['name']}", *(f"  {name:<{width}}  {value}" for name, value in pairs)]
    return "\n\n".join(["\n".join(head), *(tables.render(table) for table in tables.tables(report))])
