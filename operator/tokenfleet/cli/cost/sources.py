"""What `tokenfleet cost` reads of a cluster: LLMDeployments, and the counters of their routers.

A router that cannot be read costs the others nothing: it is told, and the figures are those of the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol

from tokenfleet import contract
from tokenfleet.cli.cluster.connection import Cluster, Missing, Thing, connect
from tokenfleet.cli.cluster.deployments import Json, deployments_of
from tokenfleet.cli.cluster.routers import Routers, read_admin, ready_pods, routers_of
from tokenfleet.cli.cost.bills import Bill, bill_of, shared_out
from tokenfleet.cli.cost.counts import Counts, Models, added, counts_of, since
from tokenfleet.cli.errors import CliError
from tokenfleet.cli.options import Place

_AT_ONCE: Final = 8
_NO_ROUTER: Final = "No router of {place} is ready, so nobody tells what it answered."

Crew = tuple[str, str, bool]
"""Namespace and name of whoever owns some routers, and whether that is an LLMRouter."""


@dataclass(frozen=True, slots=True)
class Look:
    """At some routers."""

    pods: Mapping[str, Models] = field(default_factory=dict)
    """What each counted since it began."""
    trouble: tuple[str, ...] = ()
    """Of those that could not be read, a sentence each."""

    def since(self, before: "Look") -> "Look":
        """What came between two looks; routers that were not read both times are left out."""
        pods = {pod: since(models, before.pods[pod]) for pod, models in self.pods.items() if pod in before.pods}
        return Look(pods, tuple(dict.fromkeys((*before.trouble, *self.trouble))))


class Source(Protocol):
    """A cluster, as cost looks at it."""

    namespace: str

    def deployments(self, names: Sequence[str], *, everywhere: bool) -> list[Json]: ...

    def crew(self, deployment: Json) -> Crew:
        """Whose routers serve an LLMDeployment. Raises CliError."""

    def look(self, crew: Crew) -> Look: ...


class ClusterSource:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self.namespace = cluster, cluster.namespace
        self._routers: dict[Crew, Routers] = {}

    def deployments(self, names: Sequence[str], *, everywhere: bool) -> list[Json]:
        if names:
            found = deployments_of(self._cluster)
            return [found.get(name) for name in dict.fromkeys(names)]
        scope = "" if everywhere else f"/namespaces/{self.namespace}"
        where = "of all namespaces" if everywhere else f"in the namespace {self.namespace}"
        thing = Thing(f"the {contract.KIND}s {where}", rights=f"list {contract.PLURAL}.{contract.GROUP}")
        try:
            listed = self._cluster.read(f"/apis/{contract.GROUP}/{contract.VERSION}{scope}/{contract.PLURAL}", thing)["items"]
        except Missing:
            raise CliError(
                f"This cluster knows no {contract.KIND}s: install Tokenfleet, or choose another context with --context."
            ) from None
        return sorted(listed, key=lambda one: (one["metadata"]["namespace"], one["metadata"]["name"]))

    def crew(self, deployment: Json) -> Crew:
        routers = routers_of(self._cluster, deployment)
        crew = routers.namespace, routers.owner, routers.shared
        self._routers[crew] = routers
        return crew

    def look(self, crew: Crew) -> Look:
        routers = self._routers[crew]
        pods, trouble = {}, []
        try:
            names = ready_pods(self._cluster, routers)
        except CliError as error:
            return Look(trouble=(str(error),))
        for pod in names:
            try:
                text = read_admin(self._cluster, namespace=routers.namespace, pod=pod, path="/metrics")
                pods[f"{routers.namespace}/{pod}"] = counts_of(text)
            except CliError as error:
                trouble.append(str(error))
        return Look(pods, tuple(trouble))


def open_source(place: Place) -> Source:
    return ClusterSource(connect(place))


@dataclass(frozen=True, slots=True)
class Account:
    """What was found."""

    bills: tuple[Bill, ...]
    trouble: tuple[str, ...]
    """A sentence for each router that did not tell."""


def account(
    source: Source,
    names: Sequence[str],
    *,
    everywhere: bool,
    over: float | None,
    output_weight: float,
    clock: Callable[[], float],
    wait: Callable[[float], None],
    tell: Callable[[str], None] = lambda _: None,
) -> Account:
    """over: seconds between two looks; None: all since the routers began. wait: for so long. tell: what is being done."""
    tell("Reading LLMDeployments")
    deployments = source.deployments(names, everywhere=everywhere)
    tell("Reading the metrics of routers")
    crews, orphans, trouble = _crews(source, deployments)
    began, looks = clock(), _looks(source, crews)
    seconds = None
    if over is not None and crews:
        wait(over)
        seconds = clock() - began
        tell("Reading the metrics of routers")
        later = _looks(source, crews)
        looks = {crew: later[crew].since(looks[crew]) for crew in crews}
    bills: list[Bill] = []
    for crew, members in crews.items():
        look = looks[crew]
        trouble += look.trouble or (() if look.pods else (_NO_ROUTER.format(place="/".join(crew[:2])),))
        for member, counts in zip(members, shared_out(members, added(look.pods.values())), strict=True):
            bills.append(bill_of(member, counts, seconds=seconds, output_weight=output_weight))
    bills += (bill_of(one, Counts(), seconds=seconds, output_weight=output_weight) for one in orphans)
    return Account(tuple(sorted(bills, key=lambda bill: bill.place)), tuple(trouble))


def _crews(source: Source, deployments: Sequence[Json]) -> tuple[dict[Crew, list[Json]], list[Json], list[str]]:
    """LLMDeployments by whose routers serve them, those of which nobody knows, and why."""
    crews: dict[Crew, list[Json]] = {}
    orphans, trouble = [], []
    for deployment in deployments:
        try:
            crews.setdefault(source.crew(deployment), []).append(deployment)
        except CliError as error:
            orphans.append(deployment)
            trouble.append(str(error))
    return crews, orphans, trouble


def _looks(source: Source, crews: Mapping[Crew, object]) -> dict[Crew, Look]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(crews, pool.map(source.look, crews), strict=True))
