"""The models that this router serves, by the name that requests give, and GET /v1/models.

Known models come from LLMDeployments, not from pods: one with no replica up is listed all the same. `Catalog.model` gives the
same object for the same name for as long as it is served, so that its queue lives on when its LLMDeployment changes.
"""

from collections import deque
from collections.abc import Callable, Iterable
from urllib.parse import unquote_to_bytes

import msgspec

from tokenfleet.router import routes
from tokenfleet.router.balancing.replicas import Replicas
from tokenfleet.router.callers.keys import Key
from tokenfleet.router.models import Model
from tokenfleet.router.rejections import MODEL_FORBIDDEN, MODEL_NOT_FOUND, NOT_SYNCED, Rejected
from tokenfleet.router.wire.deadlines import Deadlines


class Catalog:
    """What is served now."""

    __slots__ = ("_clock", "_deadlines", "_models", "_replicas", "synced")

    def __init__(self, clock: Callable[[], float], deadlines: Deadlines) -> None:
        self._clock = clock
        self._deadlines = deadlines
        self._models: dict[str, Model] = {}
        self._replicas: set[Replicas] = set()
        self.synced = False
        """Models and replicas were read from their source at least once."""

    def model(self, name: str) -> Model:
        """The model of this name, as it is served now, or a new one."""
        return self._models.get(name) or Model(name, clock=self._clock)

    def replace(self, models: Iterable[Model]) -> None:
        """Serve these. Whoever waits for one that is not among them is told so."""
        before, self._models = self._models, {model.name: model for model in models}
        for old in set(before.values()) - set(self._models.values()):
            self._deadlines.discard(old.queue)
            old.queue.evict_all(Rejected(MODEL_NOT_FOUND, f"The model {old.name!r} is not served here any more."))
        self._connect()

    def _connect(self) -> None:
        """Put queues and replicas into the wheel, and have the replicas tell the models that they are of when there is room."""
        owners: dict[Replicas, list[Model]] = {}
        for model in self._models.values():
            self._deadlines.add(model.queue)
            for pool in model.pools:
                owners.setdefault(pool.replicas, []).append(model)
                if pool.prefill is not None:
                    owners.setdefault(pool.prefill, [])
        for gone in self._replicas - owners.keys():
            self._deadlines.discard(gone)
            gone.freed = None
        self._replicas = set(owners)
        for replicas, models in owners.items():
            self._deadlines.add(replicas)
            replicas.freed = models[0].pump if len(models) == 1 else _Turns(models)
            replicas.freed()

    def models(self) -> list[Model]:
        return list(self._models.values())

    def get(self, name: str) -> Model | None:
        return self._models.get(name)

    def find(self, name: str, key: Key) -> Model:
        """The model, where the key may use it."""
        model = self._models.get(name)
        if model is not None:
            if key.models and name not in key.models:
                raise Rejected(MODEL_FORBIDDEN, f"This key may not use the model {name!r}. It may use: {_listed(key.models)}.")
            return model
        if not self.synced:
            raise Rejected(NOT_SYNCED, "The router has not read the Kubernetes API yet. Try again in a moment.")
        names = _listed(model.name for model in self._visible(key))
        raise Rejected(MODEL_NOT_FOUND, f"No model {name[:200]!r} is served here. Served: {names}.", param="model")

    def answer(self, path: bytes, key: Key) -> bytes:
        """The body of GET /v1/models, or of GET /v1/models/{id}: what the key may use."""
        if path == routes.MODELS:
            if not self.synced and not self._models:
                raise Rejected(NOT_SYNCED, "The router has not read the Kubernetes API yet. Try again in a moment.")
            return msgspec.json.encode({"object": "list", "data": [_entry(model) for model in self._visible(key)]})
        name = unquote_to_bytes(path.removeprefix(routes.MODELS + b"/")).decode("utf-8", "replace")
        return msgspec.json.encode(_entry(self.find(name, key)))

    def _visible(self, key: Key) -> list[Model]:
        return [model for model in self._models.values() if not key.models or model.name in key.models]


class _Turns:
    """The models that share replicas. As long as there is room each gets one place at a time, so none holds up the others."""

    __slots__ = ("_models", "_pumping")

    def __init__(self, models: Iterable[Model]) -> None:
        self._models = deque(models)
        self._pumping = False

    def __call__(self) -> None:
        for model in self._models:
            if model.queue.depth:
                break
        else:
            return
        if not self._pumping:
            self._pumping = True
            try:
                self._pump()
            finally:
                self._pumping = False

    def _pump(self) -> None:
        models, idle = self._models, 0
        while idle < len(models):
            model = models[0]
            models.rotate(-1)
            idle = 0 if model.advance() else idle + 1


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none at the moment"


def _entry(model: Model) -> dict[str, object]:
    """As vLLM's; but where that has the path of a model's files as `root`, here stands the name again."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "tokenfleet",
        "root": model.name,
        "parent": model.parent,
    }
