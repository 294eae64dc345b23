"""Which LLMDeployments of a shared router answer for which model."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.planning.sharing import Served, Share, share_out, unresolved


@dataclass(frozen=True)
class Route:
    model: str
    targets: tuple[Share, ...] = ()
    fallbacks: tuple[str, ...] = ()


def served(*shares: tuple[str, int], fallbacks: tuple[str, ...] = ()) -> Served:
    return Served(tuple(Share(*share) for share in shares), fallbacks)


TWO = {"a": "chat", "b": "small"}


@pytest.mark.parametrize(
    ("routes", "members", "expected"),
    [
        pytest.param([], {}, {}, id="nothing is there"),
        pytest.param([], TWO, {"chat": served(("a", 1)), "small": served(("b", 1))}, id="each under its served name"),
        pytest.param(
            [], {"a": "chat", "b": "chat"}, {"chat": served(("a", 1), ("b", 1))}, id="two of one name share it equally"
        ),
        pytest.param(
            [Route("chat", (Share("a", 90), Share("b", 10)))],
            {"a": "chat", "b": "chat"},
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
    ],
)
def test_what_is_served(routes: list[Route], members: dict[str, str], expected: dict[str, Served]) -> None:
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


@given(routes=_ROUTES, members=st.dictionaries(_NAMES, _NAMES))
def test_all_that_is_served_can_be_answered(routes: list[Route], members: dict[str, str]) -> None:
    answer = share_out(routes, members)
    for one in answer.values():
        assert one.shares
        assert {share.deployment for share in one.shares} <= members.keys()
        assert set(one.fallbacks) <= answer.keys()
    if not list(unresolved(routes, members)):
        assert {share.deployment for one in answer.values() for share in one.shares} == set(members)
