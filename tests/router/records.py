"""A request that has ended, for the readers of the journal: it went well, but for what a test says."""

from msgspec.structs import replace

from tokenfleet.router.reporting.record import Record

WELL = Record(
    request_id=b"00000000000000010000000000000002",
    path=b"/v1/chat/completions",
    model="llama",
    key="ann",
    code=200,
    reason="relayed",
    stream=True,
    replica="engine-0",
    deployment="llama",
    track="stable",
    tries=1,
    queued=0.0,
    prefilled=0.0,
    first_byte=0.25,
    seconds=1.5,
    prompt_tokens=12,
    completion_tokens=34,
    traceparent=None,
)


def record(**differences: object) -> Record:
    return replace(WELL, **differences)
