"""The paths of vLLM's server that fleets use, as an ASGI application without a web framework.

It reads a request, has it checked, hands it to the engine and writes what comes back; admission stands around it, as it does
around vLLM. A client that leaves is noticed at once, streamed to or not. A stream that is to break off ends without its last
chunk, so that the server closes the connection, as a process that dies would.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from tokenfleet import contract
from tokenfleet_engine.serving.asgi import Receive, Scope, Send
from tokenfleet_engine.simulation import answers, requests, text
from tokenfleet_engine.simulation.engine import Engine
from tokenfleet_engine.simulation.faults import Faults
from tokenfleet_engine.simulation.models import Models
from tokenfleet_engine.simulation.parameters import read_parameters
from tokenfleet_engine.simulation.prompts import chat_prompt, completion_prompts
from tokenfleet_engine.simulation.refusals import Refused, malformed, read_object, wrong_media_type
from tokenfleet_engine.simulation.settings import Settings

JSON: Final = b"application/json"
EVENTS: Final = b"text/event-stream; charset=utf-8"
BROKEN: Final = Refused(500, "This failure is simulated (--fail-rate).", kind="InternalServerError")


class ClientLeft(Exception):
    """Nobody is there to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    models: Models
    engine: Engine
    settings: Settings
    faults: Faults
    registry: CollectorRegistry
    crash: Callable[[], None]
    wall_clock: Callable[[], float]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        methods = _PATHS.get(scope["path"])
        try:
            if methods is None:
                await _send_json(send, 404, {"detail": "Not Found"})
            elif (answer := methods.get(scope["method"])) is None:
                await _send(send, 405, b'{"detail":"Method Not Allowed"}', JSON, (b"allow", ", ".join(methods).encode()))
            else:
                await answer(self, scope, receive, send)
        except Refused as refused:
            await _send_json(send, refused.status, refused.body())
        except ClientLeft:
            pass

    async def _health(self, _: Scope, __: Receive, send: Send) -> None:
        await _send(send, 200 if self.faults.healthy() else 503, b"")

    async def _version(self, _: Scope, __: Receive, send: Send) -> None:
        await _send_json(send, 200, {"version": answers.VERSION})

    async def _list_models(self, _: Scope, __: Receive, send: Send) -> None:
        await _send_json(send, 200, self.models.cards(int(self.wall_clock())))

    async def _metrics(self, _: Scope, __: Receive, send: Send) -> None:
        await _send(send, 200, generate_latest(self.registry), CONTENT_TYPE_LATEST.encode())

    async def _tokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read_json(scope, receive)
        self.models.find(body.get("model"))
        pieces = chat_prompt(body) if "messages" in body else completion_prompts(body)[0]
        strings = [piece.decode("utf-8", "replace") for piece in pieces] if body.get("return_token_strs") else None
        content = {"count": len(pieces), "max_model_len": self.models.context, "tokens": text.to_numbers(pieces)}
        await _send_json(send, 200, {**content, "token_strs": strings})

    async def _detokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read_json(scope, receive)
        self.models.find(body.get("model"))
        tokens = body.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
            raise malformed("list_type", "body.tokens", "Input should be a valid list", tokens)
        await _send_json(send, 200, {"prompt": text.join(text.from_numbers(tokens))})

    async def _complete(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._generate(scope, receive, send, chat=False)

    async def _chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._generate(scope, receive, send, chat=True)

    async def _generate(self, scope: Scope, receive: Receive, send: Send, *, chat: bool) -> None:
        failed = self.faults.request()
        if self.faults.crashes():
            self.crash()
        body = await _read_json(scope, receive)
        if failed:
            raise BROKEN
        request = self._read(body, chat=chat, request_id=_header(scope, contract.HEADER_REQUEST_ID))
        watch = asyncio.create_task(self._watch(receive, request))
        try:
            await self.engine.begin(request.generation)
            await (self._stream(request, send) if request.parameters.stream else self._whole(request, send))
        finally:
            watch.cancel()
            self.engine.abort(request.generation)

    def _read(self, body: dict[str, Any], *, chat: bool, request_id: str | None) -> requests.Request:
        parameters = read_parameters(body, chat=chat)
        model = self.models.find(body.get("model"))
        prompts = [chat_prompt(body)] if chat else completion_prompts(body)
        return requests.begin(
            prompts, parameters, self.settings, model=model, chat=chat, created=int(self.wall_clock()),
            request_id=request_id or body.get("request_id"),
        )  # fmt: skip

    async def _whole(self, request: requests.Request, send: Send) -> None:
        answer = await request.whole()
        if answer is not None:
            await _send(send, 200, answer, JSON)

    async def _stream(self, request: requests.Request, send: Send) -> None:
        cut_after = self.faults.cut_after(request.most_tokens)
        headers = [(b"content-type", EVENTS), (b"vary", b"Origin")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for part in request.events(cut_after=cut_after):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if cut_after is None:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, receive: Receive, request: requests.Request) -> None:
        if (await receive())["type"] == "http.disconnect":
            self.engine.abort(request.generation)


Handler = Callable[[Api, Scope, Receive, Send], Awaitable[None]]
_PATHS: Final[dict[str, dict[str, Handler]]] = {
    contract.PATH_ENGINE_LIVE: {"GET": Api._health},
    "/ping": {"GET": Api._health, "POST": Api._health},
    "/version": {"GET": Api._version},
    "/metrics": {"GET": Api._metrics},
    "/v1/models": {"GET": Api._list_models},
    "/v1/completions": {"POST": Api._complete},
    "/v1/chat/completions": {"POST": Api._chat},
    "/tokenize": {"POST": Api._tokenize},
    "/detokenize": {"POST": Api._detokenize},
}


async def _read_json(scope: Scope, receive: Receive) -> dict[str, Any]:
    kind = (_header(scope, "content-type") or "application/json").split(";")[0].strip().lower()
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    if kind != "application/json":
        raise wrong_media_type()
    return read_object(b"".join(parts))


def _header(scope: Scope, name: str) -> str | None:
    wanted = name.encode()
    return next((value.decode("latin-1") for each, value in scope["headers"] if each == wanted), None)


async def _send_json(send: Send, status: int, content: object) -> None:
    await _send(send, status, json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode(), JSON)


async def _send(send: Send, status: int, body: bytes, kind: bytes | None = None, *headers: tuple[bytes, bytes]) -> None:
    start = [(b"content-length", b"%d" % len(body)), (b"vary", b"Origin"), *headers]
    if kind is not None:
        start.append((b"content-type", kind))
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
