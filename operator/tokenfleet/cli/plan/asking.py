"""The way to the cluster that a plan is for, and all that it is asked for one object. Reads, and dry runs; never a write."""

from dataclasses import replace

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, Spec
from tokenfleet.cli import options
from tokenfleet.cli.cluster.capacity import Supply, read_supply
from tokenfleet.cli.cluster.connection import Cluster, connect
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.plan.changes import children_of
from tokenfleet.cli.plan.installation import Installation, installation_of
from tokenfleet.cli.plan.live import Live, knows_us, offline, read_live, strangers
from tokenfleet.cli.plan.manifests import Manifest
from tokenfleet.cli.plan.review import Review
from tokenfleet.planning.accelerators import InvalidAccelerators, extend


class Door:
    """The way to the cluster, tried once for all objects: what it answers, or why it does not."""

    def __init__(self, place: options.Place, *, own_classes: bool = False) -> None:
        """own_classes: accelerators were named already, in the place of the cluster's."""
        self.own_classes = own_classes
        try:
            self._cluster = connect(place)
        except Unusable as error:
            raise Unusable(f"{error} --offline plans without a cluster.") from error
        self._installations: dict[str, Installation] = {}
        self.closed: str | None = None
        self.known = False
        try:
            self.known = knows_us(self._cluster)
        except CliError as error:
            self.closed = str(error)

    def cluster(self, manifest: Manifest, wanted: str | None) -> Cluster:
        """Of the manifest's namespace."""
        if wanted and manifest.namespace and wanted != manifest.namespace:
            raise Unusable(
                f"{manifest.where()}: {manifest.kind} {manifest.name} is of the namespace {manifest.namespace}, and "
                f"--namespace says {wanted}: leave one of them out."
            )
        return Cluster(self._cluster.api_client, namespace=manifest.namespace or self._cluster.namespace)

    def installation(self, cluster: Cluster) -> Installation:
        if cluster.namespace not in self._installations:
            self._installations[cluster.namespace] = installation_of(cluster)
        return self._installations[cluster.namespace]


def ask(
    review: Review, manifest: Manifest, spec: Spec, cluster: Cluster, door: Door
) -> tuple[Installation, Live, Supply | None]:
    """All that the cluster is asked."""
    if not door.known:
        review.problems.append(f"This cluster knows no {contract.KIND}s: install Tokenfleet there first.")
        live = offline(manifest, namespace=cluster.namespace)
    else:
        live = read_live(cluster, manifest)
    installation = door.installation(cluster)
    review.untold += [*live.untold, *([installation.untold] if installation.untold else [])]
    review.problems += live.refusals
    if installation.accelerators is not None and not door.own_classes:
        try:
            extend(installation.accelerators, origin="the cluster's document of accelerators")
        except InvalidAccelerators as error:
            review.untold.append(f"{error} The controller leaves it out too.")
    children = children_of(live.observed, installation.settings, before=live.before, certain=not installation.untold)
    found = strangers(cluster, list(children.wanted), live.children)
    live = replace(live, children={**live.children, **found})
    supply = read_supply(cluster, deployment=manifest.name) if isinstance(spec, LLMDeploymentSpec) else Supply()
    return installation, live, supply
