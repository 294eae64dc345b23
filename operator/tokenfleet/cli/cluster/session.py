"""The API server by asyncio, for what the kubernetes client cannot do many times at once: forwards, and streams that go on.

It is reached and spoken to as the kubeconfig says, by what the kubernetes client has read from there already.
"""

import ssl
from typing import Any

import aiohttp

from tokenfleet.cli.cluster.connection import Cluster


def api_session(cluster: Cluster) -> aiohttp.ClientSession:
    """A session whose paths are the API server's, without a limit of connections. To be opened and closed on one loop."""
    connector = aiohttp.TCPConnector(limit=0, ssl=_ssl_context(cluster.api_client.configuration))
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=15)
    return aiohttp.ClientSession(_base(cluster), connector=connector, timeout=timeout, auto_decompress=True)


def request_options(cluster: Cluster) -> dict[str, Any]:
    """What each request needs: a token, which may have been renewed since the last one; a proxy; the name to verify."""
    configuration, headers = cluster.api_client.configuration, dict(cluster.api_client.default_headers)
    for setting in configuration.auth_settings().values():
        if setting["in"] == "header" and setting["value"]:
            headers[setting["key"]] = setting["value"]
    options: dict[str, Any] = {"headers": headers}
    if configuration.proxy:
        options["proxy"] = configuration.proxy
    if configuration.tls_server_name:
        options["server_hostname"] = configuration.tls_server_name
    return options


def _base(cluster: Cluster) -> str:
    return str(cluster.api_client.configuration.host).rstrip("/") + "/"


def _ssl_context(configuration: Any) -> ssl.SSLContext | bool:
    if not str(configuration.host).startswith("https"):
        return False
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif configuration.assert_hostname is False:
        context.check_hostname = False
    return context
