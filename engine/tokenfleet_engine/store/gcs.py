"""Models in Google Cloud Storage, by its JSON API: objects below a prefix, each read at the generation that was listed.

google-auth brings the access tokens: for the service account in GOOGLE_CREDENTIALS, else for whatever the machine is
(workload identity, GOOGLE_APPLICATION_CREDENTIALS); with neither, public objects alone. STORAGE_EMULATOR_HOST names another
server, which gets credentials only where GOOGLE_CREDENTIALS has them.
"""

import asyncio
import base64
import json
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import quote

from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.store import http, remote
from tokenfleet_engine.store.listing import Checksum, Listing, RemoteFile, digest
from tokenfleet_engine.store.remote import Transient
from tokenfleet_engine.store.sources import Source

ENDPOINT: Final = "https://storage.googleapis.com"
SCOPES: Final = ("https://www.googleapis.com/auth/devstorage.read_only",)
FIELDS: Final = "nextPageToken,items(name,size,md5Hash,crc32c,generation,etag)"


class GoogleStorage:
    def __init__(self, source: Source) -> None:
        emulator = os.environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
        self._endpoint = emulator if "://" in emulator else f"http://{emulator}" if emulator else ENDPOINT
        self._source = source
        self._prefix = f"{source.path}/" if source.path else ""
        self._http = http.Http(self._endpoint)
        self._credentials: Any = None
        self._known = False
        """Whether credentials were looked for."""
        self._emulated = bool(emulator)
        self._refreshing = asyncio.Lock()

    @property
    def host(self) -> str:
        return self._http.host

    async def listing(self) -> Listing:
        files: list[RemoteFile] = []
        params = {"prefix": self._prefix, "fields": FIELDS, "maxResults": "1000"}
        url = f"{self._endpoint}/storage/v1/b/{quote(self._source.place)}/o"
        while True:
            try:
                page = await self._http.json(url, headers=await self._headers(), params=params)
            except http.Refused as error:
                raise self._explain(error, what="") from error
            items = page.get("items", ())
            files += [_file(each, self._prefix) for each in items if not each["name"].endswith("/")]
            if not page.get("nextPageToken"):
                break
            params = {**params, "pageToken": page["nextPageToken"]}
        if not files:
            raise remote.missing(f"There is nothing below {self._source}/: bucket {self._source.place} has no such prefix.")
        return Listing(digest(files), tuple(files))

    async def checksum(self, file: RemoteFile) -> Checksum | None:
        return file.checksum

    async def read(self, file: RemoteFile, start: int, end: int) -> AsyncGenerator[bytes]:
        name = quote(self._prefix + file.path, safe="")
        url = f"{self._endpoint}/download/storage/v1/b/{quote(self._source.place)}/o/{name}"
        params = {"alt": "media", "generation": file.version}
        try:
            headers = await self._headers()
            async with aclosing(self._http.read(url, start, end, headers=headers, params=params)) as answer:
                async for data in answer:
                    yield data
        except http.Refused as error:
            raise self._explain(error, what=file.path) from error

    async def close(self) -> None:
        await self._http.close()

    async def _headers(self) -> dict[str, str]:
        async with self._refreshing:
            return await asyncio.to_thread(self._authorization)

    def _authorization(self) -> dict[str, str]:
        """Waits for the token server where there is no token, or one that is about to expire."""
        from google.auth import exceptions
        from google.auth.transport.requests import Request

        try:
            if not self._known:
                self._credentials, self._known = self._find(), True
            if self._credentials is None:
                return {}
            if not self._credentials.valid:
                self._credentials.refresh(Request())
        except exceptions.TransportError as error:
            raise Transient("Google's token server cannot be reached") from error
        except exceptions.GoogleAuthError as error:
            raise remote.denied(f"Google gives no token for the credentials: {_first_line(error)}.") from error
        return {"Authorization": f"Bearer {self._credentials.token}"}

    def _find(self) -> Any:
        import google.auth
        from google.auth import exceptions

        if text := os.environ.get("GOOGLE_CREDENTIALS", "").strip():
            try:
                return google.auth.load_credentials_from_dict(json.loads(text), scopes=SCOPES)[0]  # type: ignore[no-untyped-call]
            except (ValueError, exceptions.GoogleAuthError) as error:
                problem = "is not JSON" if isinstance(error, json.JSONDecodeError) else f"is no use: {_first_line(error)}"
                raise remote.denied(
                    f"GOOGLE_CREDENTIALS in the credentials Secret {problem}. A service account's key belongs there."
                ) from None
        if self._emulated:
            return None
        os.environ.setdefault("GCE_METADATA_TIMEOUT", "1")  # outside of Google's cloud nobody answers, and three tries are made
        try:
            return google.auth.default(scopes=SCOPES)[0]
        except exceptions.DefaultCredentialsError:
            return None

    def _explain(self, error: http.Refused, *, what: str) -> EngineFailure | Transient:
        place = f"{self._source}/{what}" if what else str(self._source)
        if error.status == 401 and self._credentials is not None and self._credentials.expired:
            return Transient(f"{self.host} wants a fresh token")
        if error.status in {401, 403}:
            who = getattr(self._credentials, "service_account_email", None) or "this caller"
            given = (
                f"give {who} the role Storage Object Viewer on the bucket"
                if self._credentials is not None
                else "set GOOGLE_CREDENTIALS in the credentials Secret to a service account's key, or bind a workload identity"
            )
            return remote.denied(f"{self.host} refuses {place} ({error.status}): {given}.")
        if error.status == 404 and not what:
            return remote.missing(f"{self.host} has no bucket {self._source.place}.")
        if error.status in {404, 412}:
            return remote.changed(place)
        return remote.unreachable(f"{self.host} answers {error.status} for {place}.")


def _file(item: dict[str, Any], prefix: str) -> RemoteFile:
    """An object that was composed of others has no MD5, but every one has a CRC32C."""
    md5, crc = item.get("md5Hash"), item.get("crc32c")
    algorithm, value = ("md5", md5) if md5 else ("crc32c", crc)
    checksum = Checksum(algorithm, base64.b64decode(value).hex()) if value else None
    return RemoteFile(
        path=item["name"].removeprefix(prefix), size=int(item.get("size", 0)),
        tag=f"{checksum.algorithm}:{checksum.value}" if checksum else str(item.get("etag", "")),
        checksum=checksum, version=str(item.get("generation", "")),
    )  # fmt: skip


def _first_line(error: Exception) -> str:
    return str(error.args[0] if error.args else error).strip().split("\n")[0].rstrip(".")[:200]
