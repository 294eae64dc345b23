"""Who leaves, when the count falls, and that no pod is taken that has requests and time: each rule, then all at random."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.controller.replica_set import START, TIMEOUT, Model, Pod
from tokenfleet import contract
from tokenfleet.controller import moments
from tokenfleet.controller.goodbyes.draining import NOTICE_SECONDS, Company, Goodbye, say_goodbye
from tokenfleet.controller.goodbyes.marks import HAS_LEFT, LEAVES
from tokenfleet.controller.goodbyes.replicas import NO_WORD_SECONDS, Hearing, Replica


def replica(name: str = "a", **fields: object) -> Replica:
    """One that is up, idle, and stays."""
    pod = Pod(name=name, created=START - 1000, up=True)
    return replace(pod.replica(), **fields)  # type: ignore[arg-type]


def leaving(name: str = "a", *, since: float = 0, **fields: object) -> Replica:
    return replica(name, **{"deadline": START - since + TIMEOUT, "cost": LEAVES, **fields})


def decide(
    *replicas: Replica, wanted: int, live: int | None = -1, complete: bool = True, unheard: float = 0, surge: int = 1
) -> Goodbye:
    count = len(replicas) if live == -1 else live
    company = Company(replicas=replicas, live=count, wanted=wanted, surge=surge, timeout=TIMEOUT)
    return say_goodbye(company, Hearing(now=START, complete=complete, unheard_since=START - unheard))


def marked(goodbye: Goodbye) -> set[str]:
    return {mark.pod for mark in goodbye.marks if mark.annotations.get(contract.ANNOTATION_DRAINING)}


def released(goodbye: Goodbye) -> set[str]:
    return {mark.pod for mark in goodbye.releases if mark.annotations.get(contract.ANNOTATION_DRAINING, "") is None}


OLD, YOUNG = moments.rfc3339(START - 5000), moments.rfc3339(START - 10)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"in_flight": 0}, {"in_flight": 1}, id="the least busy one"),
        pytest.param({"created": YOUNG}, {"created": OLD}, id="of equally busy ones the youngest, whose cache is the coldest"),
        pytest.param(
            {"standing": (True, 2, False), "routable": False, "in_flight": 7},
            {"in_flight": 0},
            id="one that is not ready, since the ReplicaSet takes such first",
        ),
        pytest.param(
            {"standing": (False, 0, False), "routable": False, "begun": False},
            {"standing": (True, 0, False), "routable": False, "begun": False},
            id="one that has no node yet",
        ),
        pytest.param({"cost": -5, "in_flight": 3}, {"in_flight": 0}, id="one that somebody gave a low deletion cost"),
        pytest.param({"in_flight": None}, {"in_flight": 2}, id="one of which no load is known"),
    ],
)
def test_who_leaves_first(first: dict[str, object], second: dict[str, object]) -> None:
    assert marked(decide(replica("b", **first), replica("a", **second), wanted=1)) == {"b"}
    assert marked(decide(replica("a", **second), replica("b", **first), wanted=1)) == {"b"}


def test_a_decision_is_kept_though_another_pod_is_idle_by_now() -> None:
    goodbye = decide(leaving("a", in_flight=3), replica("b"), wanted=1)
    assert (marked(goodbye), released(goodbye), goodbye.count) == (set(), set(), 2)


def test_a_mark_has_the_deadline_and_the_cost_in_one_write() -> None:
    (mark,) = decide(replica("a", in_flight=1), replica("b", in_flight=2), wanted=1).marks
    assert (mark.pod, mark.uid) == ("a", "a")
    assert mark.annotations == {
        contract.ANNOTATION_DRAINING: moments.rfc3339(START + TIMEOUT),
        contract.ANNOTATION_DELETION_COST: str(LEAVES),
    }


@pytest.mark.parametrize(
    ("fields", "complete", "unheard", "done"),
    [
        pytest.param({"drained": True}, True, 0, True, id="all routers know of the mark, and have nothing there"),
        pytest.param({"in_flight": 0}, True, 0, False, id="nothing is there, but not all routers know of the mark"),
        pytest.param({"in_flight": 2}, True, 0, False, id="requests are there"),
        pytest.param({"in_flight": 2, "deadline": START}, True, 0, True, id="requests are there, and its time is over"),
        pytest.param({"begun": False}, True, 0, True, id="its engine has not come through its start"),
        pytest.param({"in_flight": None}, False, NO_WORD_SECONDS - 1, False, id="no word of the routers for a moment"),
        pytest.param({"in_flight": None}, False, NO_WORD_SECONDS, True, id="no word of the routers for long"),
        pytest.param({"in_flight": 1}, False, 300, False, id="no word of some, and others have requests there"),
        pytest.param({"drained": True}, False, 1, False, id="what some routers say is not what all say"),
    ],
)
def test_when_a_drain_is_over(fields: dict[str, object], complete: bool, unheard: float, done: bool) -> None:
    goodbye = decide(leaving("a", since=40, **fields), replica("b"), wanted=1, complete=complete, unheard=unheard)
    assert goodbye.count == (1 if done else 2)


def test_a_mark_that_is_new_waits_for_the_routers_though_they_were_silent_before() -> None:
    goodbye = decide(leaving("a", since=1, in_flight=None), replica("b"), wanted=1, complete=False, unheard=300)
    assert goodbye.count == 2
    assert goodbye.again_after == NO_WORD_SECONDS - 1


def test_it_looks_again_at_the_deadline() -> None:
    assert decide(leaving("a", since=20, in_flight=1), replica("b"), wanted=1).again_after == TIMEOUT - 20
    assert decide(replica("a"), replica("b"), wanted=2).again_after is None


def test_of_several_that_leave_the_one_that_is_done_goes_first() -> None:
    done, busy = leaving("a", drained=True), leaving("b", in_flight=1)
    goodbye = decide(done, busy, replica("c"), wanted=1)
    assert goodbye.count == 2
    (mark,) = goodbye.marks
    assert (mark.pod, mark.annotations[contract.ANNOTATION_DELETION_COST]) == ("a", str(HAS_LEFT))
    assert mark.annotations[contract.ANNOTATION_DRAINING] == moments.rfc3339(START + TIMEOUT), "the deadline stays"


def test_all_that_are_done_go_at_once() -> None:
    goodbye = decide(leaving("a", drained=True), leaving("b", drained=True), replica("c"), wanted=1)
    assert (goodbye.count, goodbye.marks) == (1, ())


def test_one_that_is_done_waits_behind_one_that_the_replica_set_would_take_before() -> None:
    ill = leaving("b", in_flight=1, standing=(True, 2, False), routable=False)
    assert decide(leaving("a", drained=True), ill, replica("c"), wanted=1).count == 3


def test_what_the_replica_set_has_yet_to_delete_is_not_counted_twice() -> None:
    gone, busy = leaving("a", drained=True, cost=HAS_LEFT), leaving("b", in_flight=1)
    goodbye = decide(gone, busy, replica("c"), wanted=1, live=2)
    assert (goodbye.count, released(goodbye)) == (2, set())


def test_when_the_load_returns_the_busiest_stays_and_only_what_is_missing_is_added() -> None:
    pods = (leaving("a", in_flight=1), leaving("b", in_flight=5), replica("c"))
    goodbye = decide(*pods, wanted=2)
    assert (released(goodbye), goodbye.count) == ({"b"}, 3)
    goodbye = decide(*pods, wanted=4)
    assert (released(goodbye), goodbye.count) == ({"a", "b"}, 4)


def test_more_is_made_at_once() -> None:
    assert decide(replica("a"), wanted=3).count == 3


def test_pods_that_were_not_made_yet_are_cancelled_first() -> None:
    goodbye = decide(replica("a"), replica("b"), live=5, wanted=2)
    assert (goodbye.count, marked(goodbye)) == (2, set())


def test_a_pod_that_only_loads_goes_at_once() -> None:
    young = replica("b", standing=(True, 2, False), routable=False, begun=False)
    goodbye = decide(replica("a", in_flight=1), young, wanted=1)
    assert (goodbye.count, marked(goodbye), goodbye.leaving) == (1, {"b"}, ())


def test_a_marked_pod_that_went_by_itself_was_the_surplus() -> None:
    goodbye = decide(replica("b"), replica("c"), live=3, wanted=2)
    assert (goodbye.count, marked(goodbye)) == (2, set())


def test_a_marked_pod_stays_where_another_one_went_by_itself() -> None:
    goodbye = decide(leaving("a", in_flight=1), replica("c"), live=3, wanted=2)
    assert (goodbye.count, released(goodbye)) == (2, {"a"})


def test_where_a_pod_falls_ill_meanwhile_it_leaves_instead() -> None:
    goodbye = decide(leaving("a", in_flight=1), replica("b", standing=(True, 2, False), routable=False), wanted=1)
    assert (marked(goodbye), released(goodbye)) == ({"b"}, {"a"})


def test_to_zero_all_leave_and_none_goes_before_it_is_done() -> None:
    goodbye = decide(replica("a", in_flight=1), leaving("b", drained=True), wanted=0)
    assert (marked(goodbye), goodbye.count) == ({"a", "b"}, 1), "b is marked anew, to go first"


def test_without_a_deployment_all_pods_that_are_there_are_counted() -> None:
    """It was deleted by hand, and its pods left: the new one takes them, and says goodbye to those beyond what is wanted."""
    goodbye = decide(replica("a"), replica("b"), replica("c"), live=None, wanted=2)
    assert (goodbye.count, len(marked(goodbye))) == (3, 1)
    assert decide(live=None, wanted=2).count == 2


# --- While a rollout replaces pods -----------------------------------------------------------------------------------


def rolling(*extra: Replica, **fields: object) -> tuple[Replica, ...]:
    new = replica("n", template="t2", standing=(True, 2, False), routable=False, begun=False)
    return replica("a", **fields), replica("b"), new, *extra


def test_during_a_rollout_the_count_does_not_fall_and_nobody_is_chosen() -> None:
    goodbye = decide(*rolling(), live=2, wanted=1)
    assert (goodbye.count, marked(goodbye)) == (2, set())


def test_during_a_rollout_the_count_rises() -> None:
    assert decide(*rolling(), live=2, wanted=4).count == 4


@pytest.mark.parametrize(("wanted", "stays"), [(1, set()), (2, {"a"})])
def test_during_a_rollout_a_drain_goes_on_and_is_cancelled(wanted: int, stays: set[str]) -> None:
    pods = rolling(deadline=START + TIMEOUT, cost=LEAVES, drained=True)
    goodbye = decide(*pods, live=2, wanted=wanted)
    assert (goodbye.count, released(goodbye)) == (2, stays)


def test_during_a_rollout_suspension_drains_all_and_then_takes_all() -> None:
    goodbye = decide(*rolling(), live=2, wanted=0)
    assert (marked(goodbye), goodbye.count) == ({"a", "b", "n"}, 2)
    gone = [replace(one, deadline=START + 5.0, drained=True, cost=LEAVES) for one in rolling()]
    assert decide(*gone, live=2, wanted=0).count == 0


# --- Notices -----------------------------------------------------------------------------------------------------------


def doomed(name: str = "a", *, since: float | None = 0, **fields: object) -> Replica:
    return replica(name, **{"doomed": True, "noticed": None if since is None else START - since, **fields})


def test_a_pod_under_notice_has_somebody_in_its_place_first() -> None:
    goodbye = decide(doomed("a", since=None), replica("b"), wanted=2)
    assert (goodbye.count, marked(goodbye)) == (3, set())
    (mark,) = goodbye.marks
    assert (mark.pod, mark.annotations) == ("a", {contract.ANNOTATION_NOTICED: moments.rfc3339(START)})
    assert goodbye.again_after == NOTICE_SECONDS


def test_it_drains_once_as_many_as_are_wanted_serve_without_it() -> None:
    goodbye = decide(doomed("a"), replica("b"), replica("n"), wanted=2)
    assert (goodbye.count, marked(goodbye)) == (3, {"a"})


def test_one_of_two_drains_when_one_has_somebody_in_its_place() -> None:
    goodbye = decide(doomed("a"), doomed("b", in_flight=2), replica("n"), live=4, wanted=2)
    assert marked(goodbye) == {"a"}


@pytest.mark.parametrize(("since", "leaves"), [(NOTICE_SECONDS - 1, set()), (NOTICE_SECONDS, {"a"})])
def test_it_drains_after_a_while_in_any_case(since: float, leaves: set[str]) -> None:
    loading = replica("n", standing=(True, 2, False), routable=False, begun=False)
    assert marked(decide(doomed("a", since=since), replica("b"), loading, wanted=2)) == leaves


def test_the_last_one_that_routers_can_use_is_not_taken_from_them() -> None:
    loading = replica("n", standing=(True, 2, False), routable=False, begun=False)
    assert marked(decide(doomed("a", since=300), loading, wanted=1)) == set()
    assert marked(decide(doomed("a", since=300), loading, live=2, wanted=0)) == {"a", "n"}


def test_when_it_is_done_it_goes_and_the_count_is_what_is_wanted() -> None:
    gone = doomed("a", deadline=START + 9.0, cost=LEAVES, drained=True)
    assert decide(gone, replica("b"), replica("n"), wanted=2).count == 2


def test_it_is_not_counted_out_while_the_replica_set_would_take_another_pod() -> None:
    gone = doomed("a", deadline=START + 9.0, cost=LEAVES, drained=True)
    loading = replica("n", standing=(True, 2, False), routable=False, begun=False)
    assert decide(gone, replica("b"), loading, wanted=2).count == 3
    assert decide(gone, replica("b"), live=3, wanted=2).count == 3, "the one in its place was not made yet"


def test_no_more_than_as_many_again_are_made() -> None:
    """Where the pods in their place come to the same node, it does not go on for ever."""
    assert decide(doomed("a"), doomed("b"), doomed("c"), live=2, wanted=1).count == 2


def test_it_is_the_first_to_go_where_fewer_are_wanted() -> None:
    goodbye = decide(doomed("a", in_flight=5), replica("b"), replica("c"), wanted=2)
    assert (goodbye.count, marked(goodbye)) == (3, {"a"})


def test_a_notice_that_was_taken_back_is_forgotten() -> None:
    stays = replica("a", noticed=START - 5, deadline=START + 9.0, cost=LEAVES)
    goodbye = decide(stays, replica("b"), wanted=2)
    assert released(goodbye) == {"a"}
    assert contract.ANNOTATION_NOTICED in goodbye.releases[0].annotations


# --- All at once ---------------------------------------------------------------------------------------------------------

ACTIONS = st.one_of(
    st.tuples(st.just("scale"), st.integers(0, 5)),
    st.tuples(st.sampled_from(["arrive", "finish", "load", "fall", "delete", "doom", "spare"]), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.integers(1, 30)),
    st.tuples(st.just("control"), st.integers(0, 6)),
    st.tuples(st.sampled_from(["control", "replicate", "route"]), st.just(1000)),
)


def act(model: Model, name: str, number: int) -> None:
    """Something happens. Requests come by what routers know; no pod falls ill between a count and its ReplicaSet's turn."""
    pods = model.pods
    match name:
        case "scale":
            model.wanted = number
        case "arrive":
            if open_to := [pod for pod in pods if pod.up and not pod.said_draining]:
                open_to[number % len(open_to)].requests += 1
        case "wait":
            model.now += number
        case "control":
            before = [pod for pod in pods if pod.serves]
            model.control(writes=number)
            if number >= 1000 and before and model.wanted:
                assert any(pod.serves for pod in pods), "somebody serves as long as anybody could"
        case "replicate":
            model.replicate()
        case "route":
            model.route()
        case _ if pods:
            happen(model, pods[number % len(pods)], name)


def happen(model: Model, pod: Pod, name: str) -> None:
    match name:
        case "finish":
            pod.requests = max(0, pod.requests - 1)
        case "load":
            pod.up = True
        case "fall" if len(model.pods) == model.count:
            pod.up = False
        case "delete":
            model.pods.remove(pod)
        case "doom" | "spare":
            pod.doomed = name == "doom"


@settings(max_examples=400)
@given(st.lists(st.integers(0, 3), min_size=0, max_size=4), st.lists(ACTIONS, max_size=40))
def test_whatever_happens_no_pod_is_taken_that_has_requests_and_time_and_it_comes_to_what_is_wanted(
    requests: list[int], actions: list[tuple[str, int]]
) -> None:
    model = Model.of(*requests)
    for name, number in actions:
        act(model, name, number)
    model.settle()
    for pod, at in model.taken:
        assert not pod.requests or (pod.deadline is not None and at >= pod.deadline), f"{pod} was taken at {at}"
    model.settle(rounds=8)
    assert (model.count, len(model.pods)) == (model.wanted, model.wanted)
    assert model.names(lambda pod: pod.deadline is not None or pod.doomed) == set()
    decision = model.decide()
    assert (decision.marks, decision.releases) == ((), ()), "and then nothing is written"


@given(st.lists(st.integers(0, 9), min_size=2, max_size=6), st.data())
def test_the_least_busy_ones_leave(requests: list[int], data: st.DataObject) -> None:
    model = Model.of(*requests, wanted=data.draw(st.integers(1, len(requests) - 1)))
    model.control()
    stay = [pod.requests for pod in model.pods if pod.serves]
    leave = [pod.requests for pod in model.pods if not pod.serves]
    assert len(stay) == model.wanted
    assert max(leave) <= min(stay)
