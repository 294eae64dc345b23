"""The durable queue in Redis: one method a step, each one atomic script (scripts.py), all with a deadline.

`submit` returns when Redis has the request, and not before. Whatever keeps Redis from answering is `QueueAway`: the step may
or may not have happened then. Each may be repeated: a request is stored once by its id, and what a claim does happens once.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError

from tokenfleet.router.durable import scripts
from tokenfleet.router.durable.requests import (
    Claim,
    KeyReused,
    Outcome,
    QueueAway,
    QueueFull,
    Receipt,
    State,
    Stored,
    Submission,
)
from tokenfleet.router.terms import AsyncTerms

log = logging.getLogger(__name__)

_VIEW: Final = (
    *("owner", "state", "model", "path", "created", "started", "ended", "expires", "tries"),
    *("code", "request_id", "answer", "error_code", "error_message"),
)
_FORGET_MS: Final = 600_000
_SECONDS: Final = 3.0
"""To connect, and again for each answer."""
_CONNECTIONS: Final = 16


class AsyncStore:
    """The queue of one router (all its processes share it), as one of its processes, `consumer`, sees it."""

    def __init__(self, address: Callable[[], str], *, scope: str, consumer: str) -> None:
        """address: of Redis, asked for again after each failure. scope: what tells this router's queue from another's in the
        same Redis; all replicas of a router have the same. consumer: unique for a process."""
        self._address = address
        self._url = ""
        self._redis: Redis | None = None
        self._doubtful = True
        self._prefix = f"tokenfleet:{{{scope}}}:async:"  # In braces: a Redis Cluster keeps all of it on one node.
        self._consumer = consumer
        self._scripts: dict[str, Any] = {}

    async def submit(self, submission: Submission, terms: AsyncTerms) -> Receipt:
        """Store it, or find the one that the same idempotency key has stored. Raises QueueFull, KeyReused."""
        one = submission
        words = (one.id, one.owner, one.model, one.path, one.headers, one.body, one.reserved, one.once, one.digest)
        verdict, *rest = await self._run(scripts.ACCEPT, *words, terms.result_seconds * 1000, terms.max_pending)
        if verdict == b"full":
            raise QueueFull
        if verdict == b"reused":
            raise KeyReused
        id_, state, created, expires = rest
        return Receipt(id_.decode(), State(state.decode()), int(created) / 1000, int(expires) / 1000)

    async def find(self, id_: str, *, owner: str) -> Stored | None:
        """The request, where it exists and is the owner's."""
        row = await self._call(lambda redis: redis.hmget(f"{self._prefix}request:{id_}", _VIEW))
        found = dict(zip(_VIEW, row, strict=True))
        if found["owner"] is None or found["owner"].decode() != owner:
            return None
        return _stored(id_, found)

    async def cancel(self, id_: str, *, owner: str) -> State | None:
        """End it, if it has not ended. Returns the state that it had; None where it is not the owner's."""
        state = await self._run(scripts.CANCEL, id_, owner)
        return State(state.decode()) if state is not None else None

    async def take(self, model: str, terms: AsyncTerms) -> Claim | None:
        """Claim the next request of a model: what was given back or left by a dead router first, then the oldest."""
        row = await self._run(scripts.TAKE, model, self._consumer, terms.visibility_seconds * 1000, terms.max_tries)
        if row is None:
            return None
        id_, number, tries, owner, *rest = row
        return Claim(id_.decode(), number, tries, owner.decode(), *rest)

    async def beat(self, claims: Sequence[Claim]) -> set[str]:
        """Keep these claims. Returns the ids of those that are lost: cancelled, given up, or another's."""
        if not claims:
            return set()
        pairs = [word for claim in claims for word in (claim.id, claim.number)]
        return {id_.decode() for id_ in await self._run(scripts.BEAT, self._consumer, *pairs)}

    async def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """Store the result; False where the claim is lost, and nothing was stored."""
        one = outcome
        words = (one.state.value, one.status, one.request_id, one.body, one.code, one.message)
        return bool(await self._run(scripts.FINISH, claim.id, claim.number, self._consumer, *words))

    async def give_back(
        self, claim: Claim, terms: AsyncTerms, *, seconds: float, failure: str = "", counts: bool
    ) -> State | None:
        """Let another try follow, after a while. counts: this one used up a try; the last one's end is the dead-letter list.

        Returns QUEUED or DEAD; None where the claim is lost.
        """
        wait = (int(seconds * 1000), terms.visibility_seconds * 1000)
        most = terms.max_tries if counts else 0
        words = (claim.id, claim.number, self._consumer, *wait, most, failure)
        state = (await self._run(scripts.GIVE_BACK, *words)).decode()
        return State(state) if state != "lost" else None

    async def sweep(self) -> int:
        """Give up what is past its time. Returns how many that were."""
        return int(await self._run(scripts.SWEEP))

    async def pending(self, models: Sequence[str]) -> dict[str, int]:
        """How many requests of each model have not ended, whoever has them."""

        def lengths(redis: Redis) -> Any:
            pipeline = redis.pipeline(transaction=False)
            for model in models:
                pipeline.xlen(f"{self._prefix}queue:{model}")
            return pipeline.execute()

        return dict(zip(models, await self._call(lengths), strict=True))

    async def doubts(self) -> list[str]:
        """What of this Redis' setup is at odds with keeping what was accepted, for its operator."""
        return doubts_of(await self._call(lambda redis: redis.info()))

    async def forget_consumers(self, model: str, *, silent_ms: int = _FORGET_MS) -> None:
        """Let Redis forget the names of routers that hold nothing and were silent for so long."""
        await self._run(scripts.FORGET, model, silent_ms)

    async def close(self) -> None:
        redis, self._redis = self._redis, None
        if redis is not None:
            with suppress(RedisError, OSError):
                await redis.aclose()

    async def _run(self, script: str, *words: str | bytes | int) -> Any:
        def call(redis: Redis) -> Any:
            prepared = self._scripts.get(script)
            if prepared is None:
                prepared = self._scripts[script] = redis.register_script(script)
            return prepared(keys=[self._prefix + "pending"], args=[self._prefix, *words], client=redis)

        return await self._call(call)

    async def _call(self, command: Callable[[Redis], Any]) -> Any:
        try:
            redis = self._redis if not self._doubtful and self._redis is not None else await self._connected()
            answer = await command(redis)
        except (RedisError, OSError, ValueError) as error:  # TimeoutError is an OSError; ValueError: an address that is none
            self._doubtful = True
            raise QueueAway(f"the Redis that holds the queue: {error or type(error).__name__}") from error
        self._doubtful = False
        return answer

    async def _connected(self) -> Redis:
        """A client of the address as it is now."""
        url = self._address()
        if self._redis is None or url != self._url:
            await self.close()
            # For a connection that ended while nobody used it. A step that took too long is not waited for twice.
            retry = Retry(NoBackoff(), 1, supported_errors=(ConnectionError,))
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=_SECONDS,
                socket_timeout=_SECONDS,
                socket_connect_timeout=_SECONDS,
                retry=retry,
            )
            self._url, self._redis = url, Redis.from_pool(pool)
        return self._redis


def doubts_of(info: Mapping[str, Any]) -> list[str]:
    """info: as INFO tells it."""
    found = []
    if int(str(info.get("redis_version", "7")).partition(".")[0]) < 7:
        found.append(f"Redis {info['redis_version']} is too old for the durable queue: 7.0 or newer is needed")
    if not info.get("aof_enabled"):
        found.append("Redis keeps no append-only file: requests that were accepted end with it (set appendonly yes)")
    if info.get("maxmemory") and info.get("maxmemory_policy") != "noeviction":
        found.append("Redis deletes requests and results when its memory is full (set maxmemory-policy noeviction)")
    return found


def _stored(id_: str, found: dict[str, Any]) -> Stored:
    def text(name: str) -> str:
        return (found[name] or b"").decode("utf-8", "replace")

    def seconds(name: str) -> float | None:
        return int(found[name]) / 1000 if found[name] else None

    return Stored(
        id=id_,
        state=State(text("state")),
        owner=text("owner"),
        model=text("model"),
        path=text("path"),
        created=seconds("created") or 0.0,
        started=seconds("started"),
        ended=seconds("ended"),
        expires=seconds("expires") or 0.0,
        tries=int(text("tries")),
        status=int(text("code")) if found["code"] else None,
        request_id=text("request_id"),
        body=found["answer"],
        code=text("error_code"),
        message=text("error_message"),
    )
