"""A real request to a ready router, as a client sends it, by a forward."""

import json
import ssl
import urllib.error
import urllib.request
from typing import Final

from tokenfleet import contract
from tokenfleet.cli.cluster.connection import Cluster
from tokenfleet.cli.cluster.routers import forwarded_router, ready_pods, routers_of
from tokenfleet.cli.diagnose.snapshot import Json, Reply
from tokenfleet.cli.errors import CliError

_SECONDS: Final = 10


def ask(cluster: Cluster, owner: Json) -> Reply | None:
    """GET /v1/models; None where no router is ready. A certificate is not verified: nothing is told to whom it belongs."""
    try:
        routers = routers_of(cluster, owner)
        if not ready_pods(cluster, routers):
            return None
        with forwarded_router(cluster, routers, port=contract.ROUTER_PORT) as url:
            scheme = "https" if routers.tls_secret else "http"
            return _get(f"{scheme}{url.removeprefix('http')}/v1/models")
    except CliError as error:
        return Reply(url="/v1/models", words=str(error))


def _get(url: str) -> Reply:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=_SECONDS) as answer:
            body = json.loads(answer.read())
            return Reply(url="/v1/models", status=answer.status, models=tuple(str(one["id"]) for one in body["data"]))
    except urllib.error.HTTPError as error:
        return Reply(url="/v1/models", status=error.code, words=" ".join(error.read().decode(errors="replace").split())[:300])
    except (urllib.error.URLError, OSError) as error:
        return Reply(url="/v1/models", words=f"A router is ready, and did not answer ({getattr(error, 'reason', error)}).")
    except (ValueError, KeyError, TypeError) as error:
        return Reply(url="/v1/models", status=200, words=f"The answer is no list of models: {error}")
