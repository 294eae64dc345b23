"""Which LLMDeployments of a shared router answer for which model."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.planning.sharing import Member, Served, Share, contested, share_out, unresolved


@dataclass(frozen=True)
class Route:
    model: str
    targets: tuple[Share, ...] = ()
    fallbacks: tuple[str, ...] = ()


def served(*shares: tuple[str, int] | tuple[str, int, str], fallbacks: tuple[str, ...] = ()) -> Served:
    return Served(tuple(Share(*share) for share in shares), fallbacks)


TWO = {"a": Member("chat"), "b": Member("small")}
TUNED = {"a": Member("chat", ("sql", "law")), "b": Member("small", ("sql",))}


@pytest.mark.parametrize(
    ("routes", "members", "expected"),
    [
        pytest.param([], {}, {}, id="nothing is there"),
        pytest.param([], TWO, {"chat": served(("a", 1)), "small": served(("b", 1))}, id="each under its served name"),
        pytest.param(
            [],
            {"a": Member("chat"), "b": Member("chat")},
            {"chat": served(("a", 1), ("b", 1))},
            id="two of one name share it equally",
        ),
        pytest.param(
            [Route("chat", (Share("a", 90), Share("b", 10)))],
            {"a": Member("chat"), "b": Member("chat")},
            {"chat": served(("a", 90), ("b", 10))},
            id="a canary",
        ),
        pytest.param(
            [Route("gpt", (Share("a", 1),))],
            TWO,
            {"chat": served(("a", 1)), "small": served(("b", 1)), "gpt": served(("a", 1))},
            id="another name for what is there",
        ),
        pytest.param(
            [Route("chat", fallbacks=("small", "tiny"))],
            TWO,
            {"chat": served(("a", 1), fallbacks=("small",)), "small": served(("b", 1))},
            id="a fallback that is there, and one that is not",
        ),
        pytest.param(
            [Route("chat", (Share("a", 1), Share("gone", 9)))],
            TWO,
            {"chat": served(("a", 1)), "small": served(("b", 1))},
            id="a target that is not there leaves its share to the others",
        ),
        pytest.param(
            [Route("chat", (Share("gone", 1),))], TWO, {"small": served(("b", 1))}, id="no target is there: not served at all"
        ),
        pytest.param(
            [Route("chat", (Share("gone", 1),), ("small",))],
            TWO,
            {"chat": served(("b", 1)), "small": served(("b", 1))},
            id="no target is there, but a fallback, which takes its place",
        ),
        pytest.param(
            [Route("x", fallbacks=("y",)), Route("y", fallbacks=("x",))],
            {},
            {},
            id="fallbacks that lead to nothing but each other",
        ),
        pytest.param(
            [Route("new", fallbacks=("gone", "chat", "small"))],
            TWO,
            {"chat": served(("a", 1)), "small": served(("b", 1)), "new": served(("a", 1), fallbacks=("small",))},
            id="a name that has nothing but fallbacks",
        ),
        pytest.param(
            [],
            TUNED,
            {
                "chat": served(("a", 1)),
                "small": served(("b", 1)),
                "sql": served(("a", 1, "sql"), ("b", 1, "sql")),
                "law": served(("a", 1, "law")),
            },
            id="adapters under their own names, in equal shares where two are called alike",
        ),
        pytest.param(
            [],
            {"a": Member("chat", ("small", "chat")), "b": Member("small")},
            {"chat": served(("a", 1)), "small": served(("b", 1))},
            id="a model has its name, whoever calls an adapter so",
        ),
        pytest.param(
            [Route("sql", (Share("a", 9), Share("b", 1)), ("law",))],
            {**TUNED, "b": Member("small")},
            {
                "chat": served(("a", 1)),
                "small": served(("b", 1)),
                "sql": served(("a", 9, "sql"), ("b", 1), fallbacks=("law",)),
                "law": served(("a", 1, "law")),
            },
            id="targets of an adapter's name: the one's adapter, the other's model; and an adapter as fallback",
        ),
        pytest.param(
            [Route("tuned", fallbacks=("law",))],
            {"a": Member("chat", ("law",))},
            {"chat": served(("a", 1)), "law": served(("a", 1, "law")), "tuned": served(("a", 1, "law"))},
            id="another name for an adapter",
        ),
    ],
)
def test_what_is_served(routes: list[Route], members: dict[str, Member], expected: dict[str, Served]) -> None:
    assert share_out(routes, members) == expected


@pytest.mark.parametrize(
    ("routes", "sentences"),
    [
        pytest.param([], [], id="nothing to say"),
        pytest.param([Route("chat", (Share("a", 1),), ("small",))], [], id="all is there"),
        pytest.param(
            [Route("chat", (Share("a", 1), Share("c", 1)))],
            ["Route chat: no LLMDeployment c names this router by spec.routerRef."],
            id="a target is not there",
        ),
        pytest.param(
            [Route("large", fallbacks=("small",))],
            ["Route large: no LLMDeployment of this router has that servedName, and the route has no targets."],
            id="a route of a model that nobody serves",
        ),
        pytest.param(
            [Route("small", (Share("a", 1),))],
            ["LLMDeployment b gets no requests: the route of its model small has other targets."],
            id="one is left out",
        ),
    ],
)
def test_what_is_told(routes: list[Route], sentences: list[str]) -> None:
    assert list(unresolved(routes, TWO)) == sentences


@pytest.mark.parametrize(
    ("routes", "members", "sentences"),
    [
        pytest.param([Route("sql", fallbacks=("law",))], TUNED, [], id="nothing to say"),
        pytest.param(
            [Route("sql", (Share("a", 1),))],
            TUNED,
            ["Adapter sql of LLMDeployment b gets no requests: the route sql has other targets."],
            id="one is left out",
        ),
        pytest.param(
            [],
            {"a": Member("chat", ("small",)), "b": Member("small")},
            [
                "Adapter small of LLMDeployment a is not served: LLMDeployment b serves its model under that name. "
                "Rename one of the two."
            ],
            id="a model has its name",
        ),
    ],
)
def test_what_is_told_of_adapters(routes: list[Route], members: dict[str, Member], sentences: list[str]) -> None:
    assert list(unresolved(routes, members)) == sentences


_NAMES = st.sampled_from(["a", "b", "c", "d"])
_ROUTES = st.lists(
    st.builds(
        Route,
        _NAMES,
        st.lists(st.builds(Share, _NAMES, st.integers(0, 3)), max_size=3).map(tuple),
        st.lists(_NAMES, max_size=3).map(tuple),
    ),
    max_size=4,
    unique_by=lambda route: route.model,
)


_MEMBERS = st.builds(Member, _NAMES, st.lists(_NAMES, max_size=2).map(tuple))


@given(routes=_ROUTES, members=st.dictionaries(_NAMES, _MEMBERS))
def test_all_that_is_served_can_be_answered(routes: list[Route], members: dict[str, Member]) -> None:
    answer = share_out(routes, members)
    models = {member.model for member in members.values()}
    assert models - {route.model for route in routes if route.targets} <= answer.keys()
    for sentence in contested(members):
        assert sentence.split()[1] in models
    for one in answer.values():
        assert one.shares
        assert {share.deployment for share in one.shares} <= members.keys()
        assert set(one.fallbacks) <= answer.keys()
        assert all(share.adapter in (None, *members[share.deployment].adapters) for share in one.shares)
    if not list(unresolved(routes, members)):
        assert {share.deployment for one in answer.values() for share in one.shares} == set(members)
