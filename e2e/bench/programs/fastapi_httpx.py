"""The proxy that one writes in an afternoon: FastAPI in front, httpx behind, round robin. A peer of the router's benchmark.

Honest and typical, neither tuned nor slowed down: one client with kept connections and without a limit on them, the body
decoded once to see whether it asks for a stream, streams passed on as they come. It runs in an environment of its own, with
uvicorn, uvloop and httptools: `uvicorn fastapi_httpx:app`. ENGINES names the backends' URLs, by commas.
"""

import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

engines = itertools.cycle(os.environ.get("ENGINES", "http://127.0.0.1:8000").split(","))
client = httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=None, max_keepalive_connections=None))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await client.aclose()


async def complete(request: Request) -> Response:
    body = await request.body()
    asked = client.build_request(
        "POST",
        next(engines) + request.url.path,
        content=body,
        headers={"content-type": "application/json", "authorization": request.headers.get("authorization", "")},
    )
    if not json.loads(body).get("stream"):
        whole = await client.send(asked)
        return Response(whole.content, whole.status_code, media_type=whole.headers.get("content-type"))
    answer = await client.send(asked, stream=True)

    async def events() -> AsyncIterator[bytes]:
        try:
            async for piece in answer.aiter_raw():
                yield piece
        finally:
            await answer.aclose()

    return StreamingResponse(events(), answer.status_code, media_type=answer.headers.get("content-type"))


app = FastAPI(lifespan=lifespan)
app.add_api_route("/v1/chat/completions", complete, methods=["POST"])
