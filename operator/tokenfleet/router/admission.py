"""Whether a request may come in, before it costs anything: its key, its model, its bounds. Pure, but for the key's clock.

The order is the specification: who is asking (at the head, so that a stranger's body is not even read), for what, and whether
that is within bounds. Limits in requests and tokens, the queue and load come after: they are asked by the Exchange, which can
wait for them.
"""

import time

from tokenfleet.router import fields
from tokenfleet.router.balancing import affinity
from tokenfleet.router.callers import bounds, estimate
from tokenfleet.router.callers.keys import Key
from tokenfleet.router.jobs import Job
from tokenfleet.router.routes import unknown
from tokenfleet.router.shared import Shared
from tokenfleet.router.wire.request import Request


def authorise(shared: Shared, request: Request) -> Key:
    """Whose request it is; everybody's where no keys are asked for."""
    return shared.keyring.find(request.credential, time.time())


def admit(shared: Shared, request: Request, body: bytes, key: Key) -> Job:
    """The request as a job, or Rejected."""
    read = fields.read(body)
    model = shared.catalog.find(read.model, key)
    terms, route = model.terms, request.route
    limits = terms.bounds
    if route.extra and route.path.decode() not in terms.extra_paths:
        raise unknown(route.path)
    bounds.check(read, limits)
    if route.extra:
        bounds.check_documents(body, limits)
    return Job(
        request=request,
        request_id=shared.request_id(),
        body=body,
        fields=read,
        model=model,
        key=key,
        flow=key.name,
        tokens=estimate.tokens(read, len(body), limits.max_tokens),
        affinity=affinity.of(read, request, terms) if terms.policy != "LeastConnections" else None,
        received=shared.loop.time(),
    )
