"""What the spec says of a router: an LLMDeployment's own (`spec.router`), or a shared one's (an LLMRouter's `spec`).

The router reads these fields live from the Kubernetes API (router/terms.py), so changing a value restarts nothing. Only which
Secrets there are (`auth`, `tls`, `redis`), and `tracing`, stand in the router's pods, and roll them one at a time.
"""

import json
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tokenfleet.api.rules import Rule, Ruled
from tokenfleet.api.scalars import FRACTION, SecretName

Minutely = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Queue(Ruled):
    """Where requests wait when every replica is at its limit."""

    max_depth: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=512, description="Requests that wait at most, of one model in one router pod. 0: none waits."
    )
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=60, description="How long a request waits at most, in seconds, until it is answered 503."
    )


class Shedding(Ruled):
    """Refusing a part of the requests before the queue is full, so that those that are taken are answered in time."""

    rules: ClassVar = (
        Rule(
            cel="double(self.startAt) < double(self.stopAt)",
            message="startAt must be below stopAt: requests are refused more and more often between the two",
            holds=lambda shedding: float(shedding.start_at) < float(shedding.stop_at),
        ),
    )

    start_at: Annotated[str, Field(pattern=FRACTION)] = Field(
        default="0.7",
        description="The load from which on some requests are answered 503, by chance, those of low priority first. A decimal "
        'in quotes, such as "0.7": how full the queue is, or how near recent waits came to timeoutSeconds.',
    )
    stop_at: Annotated[str, Field(pattern=FRACTION)] = Field(
        default="1.0", description="The load from which on every request is answered 503, also those of high priority."
    )
    ttft_milliseconds: Annotated[int, Field(ge=1, le=3_600_000)] | None = Field(
        default=None,
        description="Time to the first token that counts as a load of 1 too, in milliseconds. Default: only the queue counts.",
    )


class Auth(Ruled):
    """Who may send requests."""

    keys_secret: SecretName = Field(
        description="Secret of this namespace with one entry for each API key, which holds the key's SHA-256 digest; "
        "`tokenfleet keys` writes it. While it is missing, every request is refused."
    )


class Limits(Ruled):
    """Of each API key that brings no limits of its own; without `auth`, of all requests together."""

    requests_per_minute: Minutely | None = Field(default=None, description="Requests a minute. Default: no limit.")
    tokens_per_minute: Minutely | None = Field(
        default=None, description="Tokens a minute, of prompts and answers together. Default: no limit."
    )


class Bounds(Ruled):
    """What one request may ask for; more is answered 400."""

    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = Field(default=8 << 20, description="Size of a body, in bytes.")
    max_choices: Annotated[int, Field(ge=1, le=1024)] = Field(default=8, description="`n` and `best_of`.")
    max_tokens: Annotated[int, Field(ge=1, le=16_777_216)] | None = Field(
        default=None,
        description="`max_tokens` and `max_completion_tokens`. Default: the LLMDeployment's engine.maxModelLen, if it has one.",
    )
    max_logprobs: Annotated[int, Field(ge=0, le=1000)] = Field(default=20, description="`logprobs` and `top_logprobs`.")
    media_urls: Literal["Refuse", "Allow"] = Field(
        default="Refuse",
        description="Images, audio and video that the engine would fetch from an address in the request. Refuse keeps clients "
        "from making the engine call other services; data: URLs always pass.",
    )
    prompt_embeds: Literal["Refuse", "Allow"] = Field(
        default="Refuse",
        description="Prompts as tensors. The engine unpacks them, so allow them only to clients that you trust.",
    )


class Tls(Ruled):
    """TLS between clients and the router."""

    secret_name: SecretName = Field(
        description="Secret of this namespace, of type kubernetes.io/tls. The router then speaks TLS alone, its Service has "
        "port 443 instead of 80, and a renewed certificate is taken without a restart."
    )


class Redis(Ruled):
    """A Redis that the router's replicas share."""

    url_secret: SecretName = Field(
        description="Secret of this namespace whose entry `url` is the address, such as redis://:password@redis:6379/0. Limits "
        "then hold for all replicas together; while Redis is away, each replica limits on its own."
    )


class Async(Ruled):
    """The durable queue: requests that are accepted at once and answered later."""

    enabled: bool = Field(default=False, description="Serve /v1/async/. Needs `redis`, where requests and results are kept.")
    visibility_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=30, description="After this without a sign of life of the router that works on a request, another one takes it."
    )
    max_tries: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3, description="How often a request is begun at most, until it is put aside as failed."
    )
    result_seconds: Annotated[int, Field(ge=60, le=2_592_000)] = Field(
        default=86_400, description="How long a result is kept, in seconds."
    )
    max_pending: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=10_000, description="Requests that may be pending at once; further ones are answered 503."
    )


class Tracing(Ruled):
    """OpenTelemetry spans of requests, by OTLP over HTTP."""

    endpoint: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^https?://[A-Za-z0-9.\[\]:-]+(/[^ ]*)?$")] = Field(
        description="The collector's base URL, such as http://otel-collector.observability:4318."
    )
    sample_ratio: Annotated[str, Field(pattern=FRACTION)] = Field(
        default="1.0",
        description="The part of requests that gets a span, as a decimal in quotes. A request whose traceparent says so is "
        "sampled, or not, whatever stands here.",
    )


class Router(Ruled):
    """The router in front of the engines."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.sessionHeader) || self.policy == 'SessionAffinity'",
            message="sessionHeader needs the policy SessionAffinity: set policy, or leave sessionHeader out",
            holds=lambda router: router.session_header is None or router.policy == "SessionAffinity",
        ),
        Rule(
            cel="!self.async.enabled || has(self.redis)",
            message="async needs redis: set redis.urlSecret, where requests and results are kept, or async.enabled to false",
            holds=lambda router: not router.asynchronous.enabled or router.redis is not None,
        ),
        Rule(
            cel="self.extraPaths.all(path, self.extraPaths.exists_one(other, other == path))",
            message="extraPaths must not name a path twice: remove one of the two",
            holds=lambda router: len(set(router.extra_paths)) == len(router.extra_paths),
        ),
    )

    replicas: Annotated[int, Field(ge=1, le=64)] = Field(default=2, description="Router pods.")
    policy: Literal["LeastConnections", "PrefixAffinity", "SessionAffinity"] = Field(
        default="LeastConnections",
        description="Which replica gets a request. LeastConnections: the one with the fewest in flight. PrefixAffinity: "
        "prompts with the same beginning, or of one conversation, go to the same replica, whose prefix cache knows them, "
        "unless it is busy. SessionAffinity: likewise, by a header.",
    )
    session_header: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] | None = Field(
        default=None,
        description="Header that SessionAffinity goes by, in lower case. Requests without it go where the fewest are in "
        "flight. Default: x-session-id.",
    )
    max_in_flight: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None,
        description="Requests in flight on one replica at most; further ones wait in the queue. "
        "Default: engine.batching.maxNumSeqs, else 256.",
    )
    max_connections_per_peer: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=4096, description="Connections that one address may keep open to one router pod; further ones are answered 503."
    )
    queue: Queue = Field(default=Queue(), description="Where requests wait when every replica is at its limit.")
    shedding: Shedding = Field(default=Shedding(), description="Refusing a part of the requests before the queue is full.")
    auth: Auth | None = Field(default=None, description="Who may send requests. Absent: whoever reaches the router.")
    limits: Limits = Field(default=Limits(), description="Requests and tokens a minute.")
    bounds: Bounds = Field(default=Bounds(), description="What one request may ask for.")
    extra_paths: Annotated[list[Literal["/v1/rerank", "/rerank", "/v2/rerank", "/v1/score", "/score"]], Field(max_length=5)] = (
        Field(default=[], description="Further paths that pass to the engines, where the model serves them.")
    )
    tls: Tls | None = Field(default=None, description="TLS between clients and the router. Absent: plain HTTP.")
    redis: Redis | None = Field(default=None, description="A Redis that the router's replicas share.")
    asynchronous: Async = Field(default=Async(), alias="async", description="The durable queue.")
    access_log: Literal["Errors", "All", "Off"] = Field(
        default="Errors",
        description="Requests that get a line of JSON on the router's stdout, without prompt or answer. Errors: those that "
        "were not answered whole and well.",
    )
    tracing: Tracing | None = Field(default=None, description="OpenTelemetry spans of requests. Absent: none.")


def only_defaults(path: str, value: Ruled) -> str:
    """CEL that holds where the object at `path` says nothing but what `value`, made of defaults alone, does."""
    terms = []
    for name, field in type(value).model_fields.items():
        at, default = f"{path}.{field.alias}", getattr(value, name)
        if default is None:
            terms.append(f"!has({at})")
        elif isinstance(default, Ruled):
            terms.append(only_defaults(at, default))
        elif default == []:
            terms.append(f"{at}.size() == 0")
        else:
            terms.append(f"{at} == {json.dumps(default)}")
    return " && ".join(terms)
