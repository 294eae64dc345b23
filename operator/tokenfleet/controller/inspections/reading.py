"""What an inspection's pod wrote to its log, read once it is done, and made into status.model.

Like the log of a download it is read from a node, so a read has a deadline, and few run at once. One that fails for a moment
is repeated; one that cannot succeed is told, and holds nothing up. What was read stands in the status from then on, so that
neither a restart nor another change of the spec reads it again.
"""

import json
import logging
from dataclasses import dataclass
from typing import Any, Final

from tokenfleet import contract
from tokenfleet.controller.cluster import ClusterError, Unavailable
from tokenfleet.controller.downloads import Logs
from tokenfleet.controller.inspections import progress, subject
from tokenfleet.controller.inspections.figures import number, quantity
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.controller.store import Key
from tokenfleet.planning.model_facts import UnknownModel, facts_of

logger = logging.getLogger(__name__)

READ_SECONDS: Final = 3.0
"""What one read may take."""
AGAIN_SECONDS: Final = 2.0
"""After this, a read that failed for a moment is repeated."""
UNREADABLE_SECONDS: Final = 30.0
"""After this, one that failed for good."""
_LINES: Final = 1000
"""A long line stands in a node's log in pieces of 16 KiB, each of which counts."""
_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was read, and when to look again; None: nothing is to be read."""

    model: Json | None = None
    """As status.model."""
    unread: str = ""
    """Why what is there cannot be read, in a sentence."""
    again_after: float | None = None


class Readings:
    """`look` in every reconcile."""

    def __init__(self, logs: Logs, *, at_once: int) -> None:
        self._logs, self._at_once = logs, at_once
        self._reading = 0

    async def look(self, key: Key, observed: Observed) -> Look:
        of = subject.digest_of(observed.owner)
        pod = next((pod for pod in progress.pods_of(observed, of=of) if progress.has_told(pod)), None)
        if pod is None or subject.known(observed) is not None:
            return Look()
        if self._reading >= self._at_once:
            return Look(again_after=AGAIN_SECONDS)
        self._reading += 1
        try:
            text = await self._logs.log_tail(
                observed.namespace,
                pod["metadata"]["name"],
                contract.CONTAINER_INSPECTION,
                lines=_LINES,
                limit=_BYTES,
                seconds=READ_SECONDS,
            )
        except Unavailable as error:
            logger.info("%s: the log of an inspection cannot be read; trying again: %s", "/".join(key), error)
            return Look(again_after=AGAIN_SECONDS)
        except ClusterError as error:
            return Look(unread=f"Its log cannot be read: {error}", again_after=UNREADABLE_SECONDS)
        finally:
            self._reading -= 1
        return _understood(text, of=of)


def _understood(text: str, *, of: str) -> Look:
    line = next((line for line in reversed(text.splitlines()) if line.startswith(contract.INSPECTION_PREFIX)), None)
    try:
        if line is None:
            raise ValueError("it does not say what the model is")
        told = json.loads(line.removeprefix(contract.INSPECTION_PREFIX))
        return Look(model=as_status(told["model"], told.get("draft"), of=of))
    except (ValueError, KeyError, TypeError) as error:
        return Look(unread=f"Its log has no word of the model that can be read: {error}", again_after=UNREADABLE_SECONDS)


def as_status(model: Json, draft: Json | None, *, of: str) -> Json:
    """status.model, of the documents of a model and of its draft."""
    try:
        facts, guesses = facts_of(model), None if draft is None else facts_of(draft)
    except UnknownModel as error:
        return {**_strange(model, of=of), "facts": {subject.UNKNOWN: str(error)}}
    status: Json = {
        "of": of,
        "architecture": facts.architecture,
        "parameters": number(facts.parameters),
        "weights": quantity(facts.weight_bytes),
        "facts": facts.as_json(),
    }
    if facts.context_tokens is not None:
        status["contextTokens"] = facts.context_tokens
    return status if guesses is None else {**status, "draft": guesses.as_json()}


def _strange(model: Json, *, of: str) -> Json:
    """What can be said of one that planning does not know."""
    config: dict[str, Any] = model.get("config") or {}
    architectures = config.get("architectures") or [config.get("model_type") or "unknown"]
    elements = sum(_elements(tensor) for tensor in model.get("tensors") or ())
    return {
        "of": of,
        "architecture": str(architectures[0]),
        "parameters": number(elements),
        "weights": quantity(model.get("bytes") or 0),
    }


def _elements(tensor: Json) -> int:
    count = int(tensor["count"])
    for length in tensor["shape"]:
        count *= int(length)
    return count
