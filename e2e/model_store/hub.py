"""A server that speaks as much of Hugging Face's API as huggingface_hub uses to resolve, list and read a model.

Weights are served by a redirect to another origin, as with the real one: credentials may not follow there. Each request is
recorded. What is gated, private, missing or refused answers with the statuses and X-Error-Code of huggingface.co. Standard
library only: it runs in a test's process, and by itself in a pod (`python3 hub.py MODEL_DIRECTORY HOST`).
"""

import hashlib
import json
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

TOKEN: Final = "hf_right"
STRANGER: Final = "hf_without_licence"
COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
PIECE: Final = 16_384


@dataclass
class Repository:
    files: dict[str, bytes]
    commit: str
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    private: bool = False


@dataclass(frozen=True)
class Request:
    origin: str
    path: str
    range: str
    authorized: bool


@dataclass
class Hub:
    """`hub` answers the API, `cdn` serves the weights."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    host: str = "127.0.0.1"
    """By which clients know it."""
    ports: tuple[int, int] = (0, 0)
    bytes_per_second: int | None = None
    """Of each connection that reads weights."""

    def __post_init__(self) -> None:
        self._servers = [_serve(self, origin, port) for origin, port in zip(("hub", "cdn"), self.ports, strict=True)]
        self.port, self.cdn_port = (server.server_address[1] for server in self._servers)

    def environment(self, *, port: int | None = None, token: str | None = None) -> dict[str, str]:
        return {"HF_ENDPOINT": f"http://127.0.0.1:{port or self.port}", **({"HF_TOKEN": token} if token else {})}

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    origin: str

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.hub.requests.append(Request(self.origin, path, self.headers.get("Range", ""), bool(token)))
        if self.origin == "cdn":
            self._content(next(d for r in self.hub.repositories.values() for d in r.files.values() if _sha256(d) == path[1:]))
            return
        parts = path.removeprefix("/api/models/").strip("/").split("/")
        repository = self.hub.repositories.get("/".join(parts[:2]))
        if repository is None or (repository.private and token != TOKEN):
            status = 404 if token in {TOKEN, STRANGER} else 401
            self._refuse(status, "RepoNotFound", "Repository not found" if status == 404 else "Invalid username or password.")
        elif token not in {"", TOKEN, STRANGER}:
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif path.startswith("/api/models/"):
            self._info(repository, parts)
        elif repository.gated and token != TOKEN:
            self._refuse(403 if token else 401, "GatedRepo", "Access to this model is restricted")
        else:
            self._resolve(repository, revision=parts[3], name="/".join(parts[4:]))

    def _info(self, repository: Repository, parts: list[str]) -> None:
        revision = "/".join(parts[3:]) or "main"
        if revision not in {repository.commit, *repository.revisions}:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        siblings = [_sibling(name, data) for name, data in repository.files.items()]
        body = {"id": "/".join(parts[:2]), "sha": repository.commit, "siblings": siblings, "private": repository.private}
        self._answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repository: Repository, *, revision: str, name: str) -> None:
        if revision != repository.commit:
            self._refuse(404, "RevisionNotFound", "Only at its commit is a revision read")
        elif name not in repository.files:
            self._refuse(404, "EntryNotFound", "Entry not found")
        elif _large(name):
            target = (
                f"http://{self.hub.host}:{self.hub.cdn_port}/{_sha256(repository.files[name])}?X-Amz-Signature=0123456789abcdef"
            )
            self._answer(302, b"", {"Location": target})
        else:
            self._content(repository.files[name])

    def _content(self, data: bytes) -> None:
        wanted = self.headers.get("Range", "").removeprefix("bytes=")
        if not wanted:
            self._answer(200, data, {})
            return
        first, _, last = wanted.partition("-")
        start, end = int(first), min(int(last or len(data)) + 1, len(data))
        self._answer(206, data[start:end], {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        rate = self.hub.bytes_per_second if self.origin == "cdn" else None
        for start in range(0, len(body), PIECE):
            self.wfile.write(body[start : start + PIECE])
            time.sleep(PIECE / rate if rate else 0)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _serve(hub: Hub, origin: str, port: int) -> ThreadingHTTPServer:
    address = ("127.0.0.1" if hub.host == "127.0.0.1" else "", port)
    server = ThreadingHTTPServer(address, type("Handler", (_Handler,), {"hub": hub, "origin": origin}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


def _large(name: str) -> bool:
    return name.endswith(".safetensors")


def _sibling(name: str, data: bytes) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    lfs = {"lfs": {"sha256": _sha256(data), "size": len(data), "pointerSize": 135}} if _large(name) else {}
    return {"rfilename": name, "size": len(data), "blobId": blob, **lfs}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    """The directory's files as a public model and as a gated one, slowly enough to look on."""
    directory, host = Path(sys.argv[1]), sys.argv[2]
    files = {file.name: file.read_bytes() for file in directory.iterdir() if file.is_file()}
    repositories = {name: Repository(files, COMMIT, gated=name == "fleet/gated") for name in ("fleet/small", "fleet/gated")}
    hub = Hub(repositories, host=host, ports=(8000, 8001), bytes_per_second=150_000)
    print(f"serving {', '.join(repositories)} at {hub.port}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
