"""The durable queue's requests in JSON, as its clients get them."""

from typing import Final

import msgspec

from tokenfleet.router.durable.requests import Receipt, Stored

_OBJECT: Final = "async.request"


def accepted(receipt: Receipt, model: str) -> bytes:
    """A request that Redis has just taken, or had before."""
    return msgspec.json.encode(
        {
            "id": receipt.id,
            "object": _OBJECT,
            "status": receipt.state.value,
            "model": model,
            "created_at": int(receipt.created),
            "expires_at": int(receipt.expires),
        }
    )


def shown(stored: Stored) -> bytes:
    """A request as GET tells it. The engine's answer stands in it byte by byte, where it is JSON."""
    response = None
    if stored.body is not None and stored.status:
        response = {"status_code": stored.status, "request_id": stored.request_id, "body": _json(stored.body)}
    return msgspec.json.encode(
        {
            "id": stored.id,
            "object": _OBJECT,
            "status": stored.state.value,
            "model": stored.model,
            "endpoint": stored.path,
            "created_at": int(stored.created),
            "started_at": int(stored.started) if stored.started is not None else None,
            "completed_at": int(stored.ended) if stored.ended is not None else None,
            "expires_at": int(stored.expires),
            "tries": stored.tries,
            "response": response,
            "error": {"code": stored.code, "message": stored.message} if stored.code else None,
        }
    )


def _json(body: bytes) -> msgspec.Raw | str:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace")
    return msgspec.Raw(body)
