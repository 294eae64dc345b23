"""The command `profile trace`: switch a running engine's profiler on, keep it busy, fetch and read the traces.

Whatever happens in between, the profiler is switched off again: it slows the engine down and fills its memory.
"""

import argparse
import dataclasses
import json
import time
import uuid
from pathlib import Path
from typing import Any, Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.profiling import chrome_trace, traffic
from tokenfleet_engine.profiling.live import LiveEngine
from tokenfleet_engine.profiling.output import make_directory, progress
from tokenfleet_engine.profiling.self_times import TraceSummary, summarise
from tokenfleet_engine.profiling.trace_files import fetch_traces, find_directory
from tokenfleet_engine.profiling.trace_report import as_json, describe_trace

LONGEST_TRACE_SECONDS: Final = 60.0
"""Of --requests: an engine that stands still must not be traced for ever."""


def run(given: argparse.Namespace, _: Any) -> int:
    if given.no_requests and not given.seconds:
        raise EngineFailure(contract.REASON_ENGINE_CONFIG_INVALID, "--no-requests needs --seconds: how long to watch.")
    say = progress(time.monotonic())
    engine = LiveEngine(given.url)
    model = engine.model_name()
    make_directory(given.out)
    if not given.no_requests:
        first = traffic.prompt(0, words=given.prompt_words)
        engine.complete(model=model, prompt=first, max_tokens=2)  # what an engine does only once is no part of a trace
    prefix = f"tokenfleet-{uuid.uuid4().hex[:8]}"
    engine.start_profile(prefix)
    say(f"traces {model} at {given.url}")
    try:
        sent = _occupy(engine, model, given)
    finally:
        engine.stop_profile()
    say(f"{sent.answered} requests answered, {sent.tokens} tokens" + (f"; {sent.failed} failed" if sent.failed else ""))
    if sent.failed and not sent.answered:
        raise EngineFailure(contract.REASON_ENGINE_START_FAILED, f"No request was answered. {sent.first_failure}")
    files = fetch_traces(given.trace_dir or find_directory(), prefix=prefix, out=given.out)
    summaries = {file: _summarise(file) for file in files}
    report = as_json(summaries, sent=dataclasses.asdict(sent))
    (given.out / "trace.json").write_text(json.dumps(report, indent=1) + "\n")
    described = (describe_trace(str(file), summary, file_bytes=file.stat().st_size) for file, summary in summaries.items())
    print(json.dumps(report, indent=1) if given.json else "\n\n".join(described), flush=True)
    return 0


def _occupy(engine: LiveEngine, model: str, given: argparse.Namespace) -> traffic.Sent:
    if given.no_requests:
        time.sleep(given.seconds)
        return traffic.Sent()
    return traffic.send(
        lambda prompt: engine.complete(model=model, prompt=prompt, max_tokens=given.max_tokens),
        requests=None if given.seconds else given.requests, seconds=given.seconds or LONGEST_TRACE_SECONDS,
        at_once=given.at_once, prompt_words=given.prompt_words, clock=time.monotonic,
    )  # fmt: skip


def _summarise(file: Path) -> TraceSummary:
    try:
        return summarise(chrome_trace.read_trace(file))
    except chrome_trace.TraceInvalid as error:
        raise EngineFailure(contract.REASON_ENGINE_CRASHED, f"{file} {error}. Trace again.") from error
