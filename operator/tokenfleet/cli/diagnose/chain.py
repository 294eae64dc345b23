"""The chain, from the cluster's API to a client's request: its order is what "the first cause" means. Pure."""

from collections.abc import Iterator

from tokenfleet.cli.diagnose import engines, entrances, foundations
from tokenfleet.cli.diagnose.findings import Diagnosis, Finding
from tokenfleet.cli.diagnose.snapshot import Snapshot


def diagnose(seen: Snapshot) -> Diagnosis:
    return Diagnosis(namespace=seen.namespace, name=seen.name, findings=tuple(_links(seen)))


def _links(seen: Snapshot) -> Iterator[Finding]:
    yield foundations.kind_known(seen)
    yield foundations.controller_alive(seen)
    if seen.owner is None:
        return
    yield foundations.spec_valid(seen)
    yield foundations.model_fits(seen)
    yield engines.volumes(seen)
    yield from engines.engine_links(seen)
    yield entrances.routers(seen)
    yield entrances.service(seen)
    yield entrances.scaling(seen)
    yield entrances.warnings(seen)
    yield entrances.request(seen)
