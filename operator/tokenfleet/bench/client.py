"""Sends one request at a time to a server of OpenAI's API, and notes when each part of the answer came.

Nothing is tried again, and nothing is raised for what a server does: a refusal, a silence or half an answer is an outcome. The
time of a chunk is taken once for all that came in one read, before anything is parsed. Connections are kept and have no bound,
so that the client never queues; proxies of the environment are not asked.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec

from tokenfleet.bench.events import Answer, Lines, message_of
from tokenfleet.bench.prompts import Prompt
from tokenfleet.bench.record import Exchange, Outcome
from tokenfleet.errors import TokenfleetError

Endpoint = Literal["completions", "chat"]
PATHS: Final[Mapping[Endpoint, str]] = {"completions": "/completions", "chat": "/chat/completions"}
_CONNECT_SECONDS: Final = 10.0
_KEPT_SECONDS: Final = 4.0
"""An idle connection: less than the 5 s after which uvicorn, and so vLLM, closes one."""
_READ_BYTES: Final = 1 << 18


class BadTarget(TokenfleetError):
    """There is nothing to test at this address; the message says what was met instead."""


class _Left(Exception):
    """The client goes, as it was meant to."""


@dataclass(slots=True)
class _Visit:
    """One request, as far as it has come."""

    answer: Answer
    times: list[float] = field(default_factory=list)
    status: int | None = None


class Client:
    """Of one server and one model."""

    def __init__(
        self,
        url: str,
        *,
        model: str,
        key: str | None = None,
        endpoint: Endpoint = "completions",
        timeout: float = 600.0,
        tls: ssl.SSLContext | bool = True,
        extra: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """url: with or without /v1. timeout: seconds for a whole answer. tls: what to verify certificates by; False: not.

        extra: fields of every request's body.
        """
        self.base, self.model, self.endpoint, self.clock = base_url(url), model, endpoint, clock
        self.chunks = 0
        """That have come in until now, of all requests: for a display."""
        self._timeout, self._tls, self._extra = timeout, tls, dict(extra or {})
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._session: aiohttp.ClientSession | None = None
        self._abandoned: tuple[Outcome, str] | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=_KEPT_SECONDS, ssl=self._tls)
        patience = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=patience, trust_env=False, read_bufsize=_READ_BYTES, headers=self._headers
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(
        self,
        prompt: Prompt,
        *,
        index: int = 0,
        intended: float | None = None,
        origin: float = 0.0,
        leave_after: float | None = None,
    ) -> Exchange:
        """intended: when it was to be sent; now, where None. origin: by the clock, what the exchange's times count from.

        leave_after: seconds after which the client closes the connection, whether or not the answer has ended.
        """
        body = self.body(prompt)
        visit = _Visit(Answer(keep_text=bool(prompt.turns)))
        sent = self.clock() - origin
        outcome, error = await self._judge(visit, body, leave_after)
        ended = self.clock() - origin
        times = tuple(time - origin for time in visit.times)
        prompt_tokens, output_tokens = visit.answer.usage or (prompt.input_tokens or 0, visit.answer.chunks)
        return Exchange(
            index=index,
            intended=sent if intended is None else intended,
            sent=sent,
            first=times[0] if times else None,
            times=times,
            ended=ended,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            outcome=outcome,
            error=error,
            status=visit.status,
            conversation=prompt.conversation,
            turn=prompt.turn,
            counted=visit.answer.usage is not None,
            text=visit.answer.text() if prompt.turns else None,
        )

    def abandon(self, outcome: Outcome, why: str) -> None:
        """From now on a `send` that is cancelled returns what it has, with this outcome, instead of raising."""
        self._abandoned = outcome, why

    def body(self, prompt: Prompt) -> bytes:
        asked: dict[str, Any] = {"model": self.model, **_asked(prompt, self.endpoint), "temperature": 0}
        if prompt.output_tokens is not None:
            asked["max_tokens"] = prompt.output_tokens
        asked |= {"stream": True, "stream_options": {"include_usage": True}, **self._extra, **(prompt.extra or {})}
        return msgspec.json.encode(asked)

    async def fetch(self, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """(status, the JSON of the answer or None); a GET where there is no body. A path with a leading // is the server's own,
        others are below /v1. Raises BadTarget where nobody answers."""
        url = self.base.removesuffix("/v1") + path[1:] if path.startswith("//") else self.base + path
        try:
            async with (
                asyncio.timeout(_CONNECT_SECONDS),
                self._open.request("GET" if body is None else "POST", url, json=body) as answer,
            ):
                content = await answer.read()
                return answer.status, _json(content)
        except TimeoutError:
            raise BadTarget(f"{url} does not answer within {_CONNECT_SECONDS:g} s.") from None
        except aiohttp.ClientError as error:
            raise BadTarget(f"{self.base} cannot be reached: {reason(error)}.") from error

    async def _judge(self, visit: _Visit, body: bytes, leave_after: float | None) -> tuple[Outcome, str | None]:
        try:
            await self._visit(visit, body, leave_after)
        except asyncio.CancelledError:
            if self._abandoned is None:
                raise
            outcome, why = self._abandoned
            return ("error" if outcome == "cut" and not visit.times else outcome), why
        except _Left:
            return "aborted", None
        except TimeoutError as error:
            told = str(error) or f"no whole answer within {self._timeout:g} s"
        except (aiohttp.ClientError, OSError) as error:
            told = reason(error)
        else:
            if visit.status != 200:
                return "error", visit.answer.error
            if visit.answer.error is None and visit.answer.done and visit.times:
                return "ok", None
            told = visit.answer.error or ("the stream ended without [DONE]" if not visit.answer.done else "no token came")
        return ("cut" if visit.times else "error"), told

    async def _visit(self, visit: _Visit, body: bytes, leave_after: float | None) -> None:
        deadline = asyncio.timeout(self._timeout if leave_after is None else min(leave_after, self._timeout))
        try:
            async with deadline, self._open.post(self.base + PATHS[self.endpoint], data=body) as response:
                visit.status = response.status
                if response.status == 200:
                    await self._listen(visit, response)
                else:
                    code, message = message_of(await response.read())
                    visit.answer.error = f"HTTP {response.status} {code or response.reason}: {message}"
        except TimeoutError:
            if deadline.expired() and leave_after is not None and leave_after < self._timeout:
                raise _Left from None
            raise

    async def _listen(self, visit: _Visit, response: aiohttp.ClientResponse) -> None:
        lines, answer, times, clock = Lines(), visit.answer, visit.times, self.clock
        async for data in response.content.iter_any():
            now = clock()
            for event in lines.feed(data):
                if answer.take(event):
                    times.append(now)
                    self.chunks += 1
            if answer.error is not None:
                return

    @property
    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "use `async with`"
        return self._session


def base_url(url: str) -> str:
    """With /v1 at its end. Raises BadTarget."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadTarget(f"{url!r} is no address of a server: write it as http://127.0.0.1:8000.")
    path = parts.path.rstrip("/")
    for tail in PATHS.values():
        path = path.removesuffix(tail)
    return parts._replace(path=path if path.endswith("/v1") else path + "/v1", query="", fragment="").geturl()


def reason(error: BaseException) -> str:
    """Of a connection's end, in words."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection broke amid the answer"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return f"{error.host}:{error.port} refuses connections"
    return str(error) or type(error).__name__


def _asked(prompt: Prompt, endpoint: Endpoint) -> dict[str, Any]:
    if endpoint == "chat":
        return {"messages": prompt.messages or ({"role": "user", "content": prompt.text or ""},)}
    return {"prompt": prompt.token_ids if prompt.token_ids is not None else prompt.text or ""}


def _json(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        return None
