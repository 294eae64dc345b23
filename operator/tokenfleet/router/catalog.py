"""The models that this router serves, by the name that requests give, and GET /v1/models.

Known models come from LLMDeployments, not from pods: one with no replica up is listed all the same. Today there is one
model at most; a shared router will hold many, each with replicas of its own.
"""

from urllib.parse import unquote_to_bytes

import msgspec

from tokenfleet.router import routes
from tokenfleet.router.rejections import MODEL_NOT_FOUND, NOT_SYNCED, Rejected
from tokenfleet.router.replicas import Replicas


class Model(msgspec.Struct, frozen=True):
    """A served model."""

    name: str
    created: int
    """Seconds since 1970: when its LLMDeployment was made."""
    replicas: Replicas


class Catalog:
    """What is served now."""

    __slots__ = ("_models", "synced")

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self.synced = False
        """Models and replicas were read from their source at least once."""

    def replace(self, models: list[Model]) -> None:
        self._models = {model.name: model for model in models}

    def models(self) -> list[Model]:
        return list(self._models.values())

    def find(self, name: str) -> Model:
        model = self._models.get(name)
        if model is not None:
            return model
        if not self.synced:
            raise Rejected(NOT_SYNCED, "The router has not read the Kubernetes API yet. Try again in a moment.")
        names = ", ".join(self._models) or "none at the moment"
        raise Rejected(MODEL_NOT_FOUND, f"No model {name[:200]!r} is served here. Served: {names}.", param="model")

    def answer(self, path: bytes) -> bytes:
        """The body of GET /v1/models, or of GET /v1/models/{id}."""
        if path == routes.MODELS:
            if not self.synced and not self._models:
                raise Rejected(NOT_SYNCED, "The router has not read the Kubernetes API yet. Try again in a moment.")
            listed = [_entry(model) for model in self._models.values()]
            return msgspec.json.encode({"object": "list", "data": listed})
        name = unquote_to_bytes(path.removeprefix(routes.MODELS + b"/")).decode("utf-8", "replace")
        return msgspec.json.encode(_entry(self.find(name)))


def _entry(model: Model) -> dict[str, object]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "tokenfleet"}
