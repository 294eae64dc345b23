"""The mirror of the API: what concerns whom, and what is old news."""

from typing import Any

import pytest

from tokenfleet import contract
from tokenfleet.controller import kinds
from tokenfleet.controller.observed import Json
from tokenfleet.controller.store import Key, Place, Store

KEY = (contract.KIND, "ns", "llama")
OTHER = (contract.KIND, "ns", "mistral")
ROUTER = (contract.ROUTER_KIND, "ns", "shared")


def deployment(*, version: int = 1, name: str = "llama", **metadata: Any) -> Json:
    fields = {"namespace": "ns", "name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"kind": contract.KIND, "metadata": {**fields, **metadata}, "spec": {}}


def child(*, version: int = 2, kind: str = "Service", of: str | None = "llama", uid: str = "u", **body: Any) -> Json:
    labels = {contract.LABEL_DEPLOYMENT: of} if of else {}
    metadata = {"namespace": "ns", "name": "child", "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"kind": kind, "metadata": metadata, **body}


def sharing(*, version: int = 1, name: str = "llama", router: str | None = "shared") -> Json:
    """An LLMDeployment that an LLMRouter serves."""
    return {**deployment(version=version, name=name), "spec": {"routerRef": {"name": router}} if router else {}}


def shared_router(*, version: int = 1) -> Json:
    return {**deployment(version=version, name="shared"), "kind": contract.ROUTER_KIND}


def filled() -> Store:
    store = Store()
    store.put(deployment())
    store.put(child())
    return store


def test_a_snapshot_has_the_deployment_its_children_and_its_pods() -> None:
    store = filled()
    store.put(child(kind="Pod", version=3))
    store.put(deployment(name="mistral"))
    seen = store.observe(KEY)
    assert seen is not None
    assert (seen.name, seen.namespace, seen.uid) == ("llama", "ns", "uid-llama")
    assert list(seen.children) == [("Service", "child")]
    assert [pod["kind"] for pod in seen.pods] == ["Pod"]


def test_without_the_deployment_there_is_nothing_to_observe() -> None:
    store = Store()
    store.put(child())
    assert store.observe(KEY) is None
    assert store.owners() == []


def test_managed_fields_are_dropped_and_the_given_object_is_left_as_it_is() -> None:
    store, body = Store(), deployment(managedFields=[{"manager": "kubectl"}])
    store.put(body)
    seen = store.observe(KEY)
    assert seen is not None and "managedFields" not in seen.owner["metadata"]
    assert "managedFields" in body["metadata"]


def test_a_snapshot_does_not_change_with_the_store_nor_the_store_with_it() -> None:
    store = filled()
    seen = store.observe(KEY)
    assert seen is not None
    seen.owner["spec"]["replicas"] = 9
    again = store.observe(KEY)
    assert again is not None and again.owner["spec"] == {}


@pytest.mark.parametrize(
    ("body", "concerned"),
    [
        pytest.param(child(version=3), (KEY,), id="newer"),
        pytest.param(child(version=2), (), id="the echo of what is known"),
        pytest.param(child(version=1), (), id="older"),
        pytest.param(child(version=10), (KEY,), id="versions are numbers, not texts"),
        pytest.param(child(version=3, of="mistral"), (OTHER, KEY), id="it was given to another one"),
        pytest.param(child(version=3, of=None), (KEY,), id="it lost its label"),
    ],
)
def test_who_is_concerned_by_an_object(body: Json, concerned: tuple[Any, ...]) -> None:
    assert filled().put(body) == concerned


def test_an_object_without_a_label_is_nobodys() -> None:
    store = Store()
    assert store.put(child(of=None)) == ()
    assert len(store) == 0


def test_a_removal_concerns_its_deployment_and_is_final() -> None:
    store = filled()
    assert store.remove(child(version=5)) == (KEY,)
    assert store.remove(child(version=5)) == ()
    assert store.put(child(version=4)) == (), "the late answer to a write that came before the removal"
    assert store.put(child(version=6)) == (KEY,), "it only had lost its label, and has it again"
    assert store.put(child(version=7, uid="another")) == (KEY,)


def test_the_removal_of_a_predecessor_does_not_remove_its_successor() -> None:
    store = filled()
    store.put(child(version=9, uid="successor"))
    assert store.remove(child(version=8)) == ()
    assert ("Service", "ns", "child") in store


def test_a_lost_removal_is_found_by_a_listing() -> None:
    store = filled()
    assert store.forget_unlisted("Service", [], namespace=None, version=1) == (), "the object is newer than the listing"
    assert store.forget_unlisted("Deployment", [], namespace=None, version=9) == (), "another kind"
    assert store.forget_unlisted("Service", [], namespace="elsewhere", version=9) == (), "another namespace"
    assert store.forget_unlisted("Service", [("Service", "ns", "child")], namespace=None, version=9) == ()
    assert store.forget_unlisted("Service", [], namespace=None, version=9) == (KEY,)
    assert ("Service", "ns", "child") not in store


def test_the_second_listing_of_an_object_tells_that_the_watch_began_anew() -> None:
    store = filled()
    assert [store.mark_listed(child()) for _ in range(3)] == [False, True, True]
    store.put(child(version=3))
    assert store.mark_listed(child(version=3)), "a change in between makes no difference"
    store.put(child(version=4, uid="another"))
    assert not store.mark_listed(child(version=4, uid="another"))
    assert not store.mark_listed(child(kind="Role")), "unknown"


def test_only_so_many_removals_are_remembered() -> None:
    store = Store()
    for number in range(5000):
        store.remove(child(uid=f"u{number}", version=number))
    assert store.put(child(uid="u0", version=0)) == (KEY,)
    assert store.put(child(uid="u4999", version=4999)) == ()


def test_the_children_of_a_router_are_told_from_those_of_an_llmdeployment_of_the_same_name() -> None:
    store = Store()
    store.put(deployment(name="shared"))
    store.put(shared_router())
    theirs = child(version=3)
    theirs["metadata"]["labels"] = {contract.LABEL_ROUTER: "shared"}
    assert store.put(theirs) == (ROUTER,)
    seen, other = store.observe(ROUTER), store.observe((contract.KIND, "ns", "shared"))
    assert seen is not None and list(seen.children) == [("Service", "child")]
    assert other is not None and other.children == {}


def test_an_llmrouter_and_those_that_name_it_see_each_other() -> None:
    store = Store()
    for body in (sharing(name="b"), sharing(name="a"), deployment(name="own"), shared_router()):
        store.put(body)
    seen = store.observe(ROUTER)
    assert seen is not None
    assert [member["metadata"]["name"] for member in seen.members] == ["a", "b"]
    member = store.observe((contract.KIND, "ns", "a"))
    assert member is not None and member.router is not None
    assert (member.router_ref, member.router["metadata"]["name"]) == ("shared", "shared")
    own = store.observe((contract.KIND, "ns", "own"))
    assert own is not None and (own.router, own.router_ref, own.members) == (None, None, ())


def test_a_change_of_one_concerns_the_other() -> None:
    store = Store()
    assert store.put(sharing()) == (KEY, ROUTER), "also while the LLMRouter is not there"
    assert store.put(shared_router(version=2)) == (ROUTER, KEY)
    assert store.put(sharing(version=3)) == (KEY, ROUTER)
    assert store.put(child(version=4)) == (KEY,), "a child or a pod is its owner's affair alone"
    assert store.put(sharing(version=5, router="second")) == (KEY, (contract.ROUTER_KIND, "ns", "second"), ROUTER)
    assert store.put(shared_router(version=6)) == (ROUTER,)
    assert store.put(sharing(version=7, router=None)) == (KEY, (contract.ROUTER_KIND, "ns", "second"))
    assert store.put(sharing(version=8)) == (KEY, ROUTER)
    assert store.remove(shared_router(version=9)) == (ROUTER, KEY)
    assert store.remove(sharing(version=10)) == (KEY, ROUTER)
    assert len(store) == 1, "the child"


def test_owners_are_counted_by_kind() -> None:
    store = filled()
    store.put(shared_router())
    assert (store.count(kinds.LLM_DEPLOYMENT), store.count(kinds.LLM_ROUTER)) == (1, 1)
    assert sorted(store.owners()) == [KEY, ROUTER]


# --- what is asked without a whole snapshot


def test_whoever_listens_hears_of_each_change_and_of_whom_it_concerns() -> None:
    store = filled()
    heard: list[tuple[Place, Key]] = []
    store.listen(lambda place, key: heard.append((place, key)))
    place = ("Service", "ns", "child")
    store.put(child(version=2))
    assert heard == [], "old news"
    store.put(child(version=3))
    store.remove(child(version=4))
    assert heard == [(place, KEY)] * 2


def test_pods_are_found_by_their_role() -> None:
    store = filled()
    for number, role in enumerate((contract.ROLE_ENGINE, contract.ROLE_ROUTER), start=5):
        body = child(version=number, kind="Pod", uid=role)
        body["metadata"] |= {"name": role, "labels": {contract.LABEL_DEPLOYMENT: "llama", contract.LABEL_ROLE: role}}
        store.put(body)
    assert [pod["metadata"]["name"] for pod in store.pods(KEY, role=contract.ROLE_ROUTER)] == [contract.ROLE_ROUTER]
    assert store.pods(OTHER, role=contract.ROLE_ROUTER) == []


def test_one_object_and_its_version() -> None:
    store = filled()
    assert store.version(KEY) == 1
    assert store.get(KEY) == deployment()
    assert (store.version(OTHER), store.get(OTHER)) == (None, None)


def test_the_router_that_is_named_whether_it_is_there_or_not() -> None:
    store = filled()
    assert store.router_of(KEY) is None
    store.put(sharing(version=2))
    assert store.router_of(KEY) == ROUTER
