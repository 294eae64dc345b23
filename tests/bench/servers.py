"""Servers of OpenAI's API that do as a test says, on a loopback port: a few lines of HTTP on a socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Body = dict[str, Any]
Answer = Callable[[asyncio.StreamWriter, Body], Awaitable[None]]


def chunk(text: str = " a") -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "text": text, "delta": {"content": text}}]}).encode() + b"\n\n"


def usage(prompt: int, output: int) -> bytes:
    counts = {"prompt_tokens": prompt, "completion_tokens": output}
    return b"data: " + json.dumps({"choices": [], "usage": counts}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def head(status: str = "200 OK", *, length: int | None = None, kind: str = "text/event-stream") -> bytes:
    framing = f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked"
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n".encode()


def piece(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


END = b"0\r\n\r\n"


def whole(status: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    return head(status, length=len(content), kind="application/json") + content


async def stream(writer: asyncio.StreamWriter, *parts: bytes, every: float = 0.0) -> None:
    """Parts, each in a piece of its own."""
    writer.write(head())
    for part in parts:
        writer.write(piece(part))
        await writer.drain()
        if every:
            await asyncio.sleep(every)
    writer.write(END)


async def answer_well(writer: asyncio.StreamWriter, body: Body) -> None:
    many = body.get("max_tokens", 4)
    asked = body.get("prompt", ["?"] * 8)
    await stream(writer, *[chunk()] * many, usage(len(asked) if isinstance(asked, list) else 8, many), DONE)


@asynccontextmanager
async def serving(
    answer: Answer = answer_well, *, models: tuple[str, ...] = ("demo",)
) -> AsyncIterator[tuple[str, list[Body]]]:
    """Its address, and the bodies that were asked."""
    asked: list[Body] = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    (int(line[15:]) for line in request.split("\r\n") if line.lower().startswith("content-length:")), 0
                )
                body = json.loads(await reader.readexactly(length)) if length else {}
                path = request.split(" ")[1]
                if path == "/v1/models":
                    writer.write(whole("200 OK", {"data": [{"id": name} for name in models]}))
                elif path == "/tokenize":
                    writer.write(whole("404 Not Found", {"error": {"message": "no such path"}}))
                else:
                    asked.append(body)
                    await answer(writer, body)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}", asked
    finally:
        server.close()
