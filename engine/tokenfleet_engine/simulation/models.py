"""The names that a simulated engine answers to: its model, and adapters of it."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenfleet_engine.simulation.refusals import unknown_model


@dataclass(frozen=True, slots=True)
class Models:
    base: str
    context: int
    adapters: Mapping[str, str] = field(default_factory=dict)
    """By name, where it is said to be."""

    @property
    def names(self) -> list[str]:
        return [self.base, *self.adapters]

    def find(self, name: object) -> str:
        """A request may leave the name out."""
        if not name:
            return self.base
        if name not in self.names:
            raise unknown_model(name, self.names)
        return str(name)

    def cards(self, now: int) -> dict[str, Any]:
        base = _card(self.base, root=self.base, parent=None, context=self.context, now=now)
        adapters = [_card(name, root=path, parent=self.base, context=None, now=now) for name, path in self.adapters.items()]
        return {"object": "list", "data": [base, *adapters]}


def _card(name: str, *, root: str, parent: str | None, context: int | None, now: int) -> dict[str, Any]:
    permission = {
        "id": f"modelperm-{secrets.token_hex(8)}", "object": "model_permission", "created": now, "allow_create_engine": False,
        "allow_sampling": True, "allow_logprobs": True, "allow_search_indices": False, "allow_view": True,
        "allow_fine_tuning": False, "organization": "*", "group": None, "is_blocking": False,
    }  # fmt: skip
    return {
        "id": name, "object": "model", "created": now, "owned_by": "vllm", "root": root, "parent": parent,
        "max_model_len": context, "permission": [permission],
    }  # fmt: skip
