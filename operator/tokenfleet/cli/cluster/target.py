"""Where a command sends its requests: an URL as it was given, or the router of an LLMDeployment, by a forward.

A router that speaks TLS has a certificate for its Service's name and not for the loopback address. So it is recognised by the
certificate itself, as its Secret has it; where that may not be read, the command says that it was not verified.
"""

import base64
import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ssl import SSLContext
from urllib.parse import urlsplit

from tokenfleet import contract
from tokenfleet.cli.cluster.connection import Cluster, Thing, connect
from tokenfleet.cli.cluster.deployments import Json, deployments_of
from tokenfleet.cli.cluster.routers import forwarded_router, routers_of
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.options import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server that speaks the OpenAI API, as long as its context lasts."""

    base_url: str
    """It ends in /v1."""
    model: str | None = None
    """The name that requests give as `model`; None where an URL was given: ask /v1/models."""
    ssl: SSLContext | None = None
    """What to verify the server's certificate by (aiohttp: `ssl=target.ssl or True`); None: as usual."""
    insecure: bool = False
    """The certificate is not verified; the user has been told."""
    deployment: Json | None = None
    """The LLMDeployment, where a name was given."""


@contextlib.contextmanager
def target(place: Place, text: str, *, tell: Callable[[str], None] | None = None) -> Iterator[Target]:
    """What `text` names: an URL, or an LLMDeployment of that place. Raises CliError.

    tell: for what the user should know, one sentence each; to stderr where left out.
    """
    if "://" in text:
        yield Target(base_url=_base_url(text))
        return
    with deployed(connect(place), text, tell=tell or _to_stderr) as found:
        yield found


@contextlib.contextmanager
def deployed(cluster: Cluster, name: str, *, tell: Callable[[str], None]) -> Iterator[Target]:
    """The router of the LLMDeployment `name`."""
    deployment = deployments_of(cluster).get(name)
    routers = routers_of(cluster, deployment)
    context, insecure = None, False
    if routers.tls_secret is not None:
        context, insecure = _trust(cluster, routers.namespace, routers.tls_secret, tell)
    with forwarded_router(cluster, routers, port=contract.ROUTER_PORT) as url:
        yield Target(
            base_url=f"{'https' + url.removeprefix('http') if routers.tls_secret else url}/v1",
            model=served_name(deployment),
            ssl=context,
            insecure=insecure,
            deployment=deployment,
        )


def served_name(deployment: Json) -> str:
    model = (deployment.get("spec") or {}).get("model") or {}
    return str(model.get("servedName") or deployment["metadata"]["name"])


def _base_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unusable(f"{text!r} is no URL of a server: give one such as http://localhost:8000, or an LLMDeployment's name.")
    url = text.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"


def _trust(cluster: Cluster, namespace: str, secret: str, tell: Callable[[str], None]) -> tuple[SSLContext, bool]:
    """What to verify the certificate by, and whether it is not verified."""
    context = ssl.create_default_context()
    context.check_hostname = False
    try:
        context.load_verify_locations(cadata=_certificates(cluster, namespace, secret))
    except (CliError, ssl.SSLError, ValueError) as error:
        context.verify_mode = ssl.CERT_NONE
        tell(f"The router's certificate is not verified, since its Secret {namespace}/{secret} cannot be read: {error}")
        return context, True
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context, False


def _certificates(cluster: Cluster, namespace: str, secret: str) -> str:
    """PEM of what the Secret of type kubernetes.io/tls trusts and is."""
    thing = Thing(f"the Secret {namespace}/{secret}", rights="get Secrets")
    data = cluster.read(f"/api/v1/namespaces/{namespace}/secrets/{secret}", thing).get("data") or {}
    return "\n".join(base64.b64decode(data[entry]).decode("ascii") for entry in ("ca.crt", "tls.crt") if data.get(entry))


def _to_stderr(text: str) -> None:
    import typer

    typer.echo(text, err=True)
