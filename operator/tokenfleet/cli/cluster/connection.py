"""The way to a cluster: by a kubeconfig, with every refusal as a sentence that says what to do.

The kubernetes client is imported when a command needs it, since that takes longer than anything else here.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tokenfleet.cli.errors import CliError, Conflict, Unreachable, Unusable
from tokenfleet.cli.options import Place

_SECONDS: Final = 15
_BUSY: Final = (429, 502, 503, 504)
"""Statuses of an API server that is overloaded, or on its way up or down."""


@dataclass(frozen=True, slots=True)
class Thing:
    """What a call is about."""

    name: str
    """With its article: the Secret default/team."""
    rights: str
    """What a role has to let one do, for all that is done here: get, create and patch Secrets."""


class Missing(CliError):
    """404: no such object, namespace, or kind."""


class Cluster:
    """One cluster, seen from one namespace."""

    def __init__(self, api_client: Any, *, namespace: str) -> None:
        """api_client: kubernetes.client.ApiClient."""
        self.api_client, self.namespace = api_client, namespace

    def call(self, verb: str, thing: Thing, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What `call`, of the kubernetes client, answers. Raises CliError: Missing, Conflict, or another one."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return call(*arguments, _request_timeout=_SECONDS, **options)
        except ApiException as error:
            raise _refusal(verb, thing, error) from error
        except (HTTPError, OSError) as error:
            why = getattr(error, "reason", None) or error
            raise Unreachable(
                f"The cluster at {self.api_client.configuration.host} does not answer ({why}): "
                "is it up, and is the context the right one?"
            ) from error

    def read(self, path: str, thing: Thing, **query: str) -> dict[str, Any]:
        """What a GET of this path of the API server answers, as JSON. Raises CliError likewise."""
        from kubernetes.client.exceptions import ApiException

        def get(**options: Any) -> Any:
            asked = {"query_params": list(query.items()), "header_params": {"Accept": "application/json"}}
            request = self.api_client.param_serialize("GET", path, **asked, auth_settings=["BearerToken"])
            answer = self.api_client.call_api(*request, **options)
            body = answer.read()
            if answer.status != 200:
                raise ApiException.from_response(http_resp=answer, body=body.decode(errors="replace"), data=None)
            return json.loads(body)

        return dict(self.call("get", thing, get))


def connect(place: Place) -> Cluster:
    """By KUBECONFIG or ~/.kube/config. Its namespace: the context's where the place has none."""
    from kubernetes import config

    file = str(place.kubeconfig) if place.kubeconfig is not None else None
    context, namespace = place.context, place.namespace
    try:
        if namespace is None:
            contexts, active = config.list_kube_config_contexts(config_file=file)  # type: ignore[no-untyped-call]
            chosen = active if context is None else next((one for one in contexts if one["name"] == context), None)
            namespace = (chosen or {}).get("context", {}).get("namespace") or "default"
        api_client = config.new_client_from_config(config_file=file, context=context)  # type: ignore[no-untyped-call]
    except Exception as error:  # of many libraries: there are many ways to write a bad kubeconfig
        why = " ".join(str(error).split()) or type(error).__name__
        raise Unusable(f"No way to reach a cluster ({why}): set KUBECONFIG or --kubeconfig, and see --context.") from error
    api_client.configuration.retries = False
    return Cluster(api_client, namespace=namespace)


def _refusal(verb: str, thing: Thing, error: Any) -> CliError:
    if error.status == 404:
        return Missing(f"{thing.name} is not there.")
    if error.status == 409:
        return Conflict(f"{thing.name[0].upper()}{thing.name[1:]} has changed meanwhile.")
    if error.status == 401:
        return CliError("The cluster does not know you: log in again, or choose another context with --context.")
    if error.status == 403:
        return CliError(f"You may not {verb} {thing.name}: ask for a role that lets you {thing.rights}.")
    if error.status in _BUSY:
        return Unreachable(f"The cluster cannot {verb} {thing.name} right now: {_message(error)}")
    return CliError(f"The cluster refused to {verb} {thing.name}: {_message(error)}")


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
