"""How to reach the API server: as a pod by its service account, elsewhere by KUBECONFIG.

kubernetes.aio reads both, and renews tokens before they end. kopf gets a session of its own over the same settings, since it
closes the one it has whenever an answer is 401.
"""

import os
from typing import Any

import aiohttp
import kopf
import yaml
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config
from kubernetes.aio.config.config_exception import ConfigException

from tokenfleet.errors import InvalidSettings


async def open_client(*, connections: int) -> ApiClient:
    """A client for at most so many calls at once. Raises InvalidSettings where nothing says how to reach an API server."""
    configuration = Configuration()
    configuration.connection_pool_maxsize = connections
    configuration.client_session_kwargs = {"trust_env": False}
    try:
        if os.environ.get("KUBECONFIG") or "KUBERNETES_SERVICE_HOST" not in os.environ:
            await load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        return ApiClient(configuration)
    except (ConfigException, yaml.YAMLError, OSError, TypeError, KeyError, ValueError) as error:  # what a bad file leads to
        raise InvalidSettings(
            f"No way to reach a Kubernetes API ({error}). Run this in a pod with a service account, or set KUBECONFIG to a "
            "kubeconfig file."
        ) from error


def kopf_login(client: ApiClient) -> Any:
    """A login handler for kopf."""
    configuration = client.configuration

    async def authorise(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if token := await configuration.get_api_key_with_prefix("BearerToken", alias="authorization"):
            request.headers["Authorization"] = token
        return await handler(request)

    async def connect(**_: Any) -> kopf.AiohttpSession:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=client.rest_client.ssl_context),
            middlewares=(authorise,),
            proxy=configuration.proxy,
        )
        return kopf.AiohttpSession(server=configuration.host, aiohttp_session=session)

    return connect
