"""Models that share replicas: whose turn it is when there is room; and what GET /v1/models says of an adapter."""

import msgspec
import pytest

from tests.router.test_models import Caller
from tokenfleet.router import routes
from tokenfleet.router.balancing.replicas import Replicas, Sighting, State
from tokenfleet.router.callers.keys import ANONYMOUS, Priority
from tokenfleet.router.catalog import Catalog
from tokenfleet.router.models import Model, Place, Pool
from tokenfleet.router.terms import QueueTerms, Terms
from tokenfleet.router.wire.deadlines import Deadlines

ADAPTERS = ("sql", "chat")


class Named(Caller):
    """Puts its name on a list when it has its place."""

    def __init__(self, name: str, order: list[str]) -> None:
        super().__init__()
        self._name = name
        self._order = order

    def granted(self, place: Place) -> None:
        super().granted(place)
        self._order.append(self._name)


def served(*, limit: int) -> tuple[Catalog, Replicas]:
    """llama and two adapters of it, on one replica."""
    catalog, replicas = Catalog(lambda: 0.0, Deadlines(lambda: 0.0)), Replicas(clock=lambda: 0.0)
    replicas.observe([Sighting("a-0", "a-0", "10.0.0.1", 8000, State.ROUTABLE, adapters=frozenset(ADAPTERS))])
    terms = Terms(max_in_flight=limit, queue=QueueTerms(max_depth=100))
    models = []
    for name, adapter in (("llama", None), *zip(ADAPTERS, ADAPTERS, strict=True)):
        model = catalog.model(name)
        pool = Pool("a", replicas, served_name=name, adapter=adapter)
        model.update(terms, [pool], created=5, parent="llama" if adapter else None)
        models.append(model)
    catalog.replace(models)
    catalog.synced = True
    return catalog, replicas


def found(catalog: Catalog, name: str) -> Model:
    model = catalog.get(name)
    assert model is not None
    return model


def wait(catalog: Catalog, name: str, count: int, order: list[str]) -> list[Named]:
    callers = [Named(name, order) for _ in range(count)]
    for caller in callers:
        found(catalog, name).join(caller, priority=Priority.NORMAL, flow="alice")
    return callers


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        pytest.param({"llama": 4, "sql": 4}, ["llama", "sql"] * 4, id="two in turns"),
        pytest.param({"sql": 3, "llama": 3}, ["llama", "sql"] * 3, id="whoever came first to the queue"),
        pytest.param({"llama": 5, "chat": 1}, ["llama", "chat", *["llama"] * 4], id="one with more goes on alone"),
        pytest.param({"llama": 2, "sql": 2, "chat": 2}, ["llama", "sql", "chat"] * 2, id="all three"),
    ],
)
def test_models_that_share_a_replica_take_turns(waiting: dict[str, int], expected: list[str]) -> None:
    catalog, _ = served(limit=1)
    taken, order = found(catalog, "llama").place(None, ()), list[str]()
    assert taken is not None
    callers = [caller for name, count in waiting.items() for caller in wait(catalog, name, count, order)]
    taken.lease.release()
    while any(caller.places for caller in callers):
        (busy,) = [caller for caller in callers if caller.places]
        busy.places.pop().lease.release()
    assert order == expected


def test_much_room_at_once_is_shared_too() -> None:
    catalog, replicas = served(limit=1)
    order: list[str] = []
    assert found(catalog, "llama").place(None, ()) is not None
    for name in ("llama", "sql"):
        wait(catalog, name, 10, order)
    replicas.configure("LeastConnections", max_in_flight=9)
    assert (order.count("llama"), order.count("sql")) == (4, 4)


def test_a_place_that_is_given_back_at_once_goes_to_the_next() -> None:
    catalog, _ = served(limit=1)
    taken, order = found(catalog, "llama").place(None, ()), list[str]()
    assert taken is not None

    class Fails(Named):
        def granted(self, place: Place) -> None:
            self._order.append(f"{self._name} fails")
            place.lease.release()

    for name in ("llama", "sql"):
        found(catalog, name).join(Fails(name, order), priority=Priority.NORMAL, flow="alice")
    wait(catalog, "chat", 1, order)
    taken.lease.release()
    assert order == ["llama fails", "sql fails", "chat"]


def test_an_adapter_is_listed_with_its_model_as_parent() -> None:
    catalog, _ = served(limit=1)
    listed = msgspec.json.decode(catalog.answer(routes.MODELS, ANONYMOUS))["data"]
    same = {"object": "model", "created": 5, "owned_by": "tokenfleet"}
    assert listed == [
        {"id": "llama", **same, "root": "llama", "parent": None},
        {"id": "sql", **same, "root": "sql", "parent": "llama"},
        {"id": "chat", **same, "root": "chat", "parent": "llama"},
    ]
