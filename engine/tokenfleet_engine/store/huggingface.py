"""Models of Hugging Face, or of a server that speaks its API (HF_ENDPOINT).

huggingface_hub resolves the revision and lists the files; the bytes come by ranged reads at that commit, so that a push in
the middle changes nothing. The token is HF_TOKEN, or what `hf auth login` has left; without one, public models alone.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import quote

from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.store import http, remote
from tokenfleet_engine.store.listing import Checksum, Listing, RemoteFile
from tokenfleet_engine.store.remote import Transient
from tokenfleet_engine.store.sources import Source

ENDPOINT: Final = "https://huggingface.co"


class HuggingFace:
    def __init__(self, source: Source) -> None:
        os.environ["HF_HUB_OFFLINE"] = "0"  # the images switch the library's network off, for the engine; read at its import
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        from huggingface_hub import HfApi

        self._source = source
        self._name = f"{source.place}/{source.path}"
        self._endpoint = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
        self._api = HfApi(endpoint=self._endpoint, library_name="tokenfleet")
        self._headers = {name: str(value) for name, value in self._api._build_hf_headers().items()}
        self._http = http.Http(self._endpoint)
        self._commit = ""

    @property
    def host(self) -> str:
        return self._http.host

    async def listing(self) -> Listing:
        info = await asyncio.to_thread(self._ask)
        self._commit = str(info.sha)
        return Listing(self._commit, tuple(_file(each) for each in info.siblings or ()))

    async def checksum(self, file: RemoteFile) -> Checksum | None:
        return file.checksum

    async def read(self, file: RemoteFile, start: int, end: int) -> AsyncGenerator[bytes]:
        url = f"{self._endpoint}/{self._name}/resolve/{self._commit}/{quote(file.path)}"
        try:
            async with aclosing(self._http.read(url, start, end, headers=self._headers)) as answer:
                async for data in answer:
                    yield data
        except http.Refused as error:
            raise self._explain(error.status, error.headers.get("X-Error-Code", ""), what=file.path) from error

    async def close(self) -> None:
        await self._http.close()

    def _ask(self) -> Any:
        import httpx2
        from huggingface_hub import errors

        try:
            return self._api.model_info(
                self._name, revision=self._source.revision, files_metadata=True, timeout=http.CONNECT_SECONDS
            )
        except errors.HfHubHTTPError as error:
            answer = error.response
            if http.passing(answer.status_code):
                message = f"{self.host} answers {answer.status_code}"
                raise Transient(message, retry_after=http.retry_after(answer.headers)) from error
            raise self._explain(answer.status_code, answer.headers.get("X-Error-Code", ""), what="") from error
        except httpx2.TransportError as error:
            raise Transient(f"{self.host} cannot be reached ({error or type(error).__name__})") from error
        except (errors.HFValidationError, ValueError) as error:
            raise remote.missing(f"{self._source} is no model's name: {error}") from error

    def _explain(self, status: int, code: str, *, what: str) -> EngineFailure:
        """Hugging Face says 401 to strangers for what does not exist, too: it does not tell them what is private."""
        token = "authorization" in {name.lower() for name in self._headers}
        if code == "GatedRepo":
            step = "with the account that HF_TOKEN belongs to" if token else "and set HF_TOKEN in the credentials Secret"
            return remote.denied(f"{self._source} is gated: accept its licence at {self._endpoint}/{self._name} {step}.")
        if code == "RevisionNotFound" or (status == 404 and code == "" and what == "" and self._source.revision):
            return remote.missing(f"{self._source} has no revision {self._source.revision}: it is a commit, a branch or a tag.")
        if code in {"EntryNotFound", "RemoteEntryNotFound"} or (status == 404 and what):
            return remote.missing(f"{self._source} at {self._commit} has no {what} any more.")
        if status == 404:
            hint = "does HF_TOKEN's account see it?" if token else "If it is private, set HF_TOKEN in the credentials Secret."
            return remote.missing(f"{self.host} has no model {self._name}: is the name right? {hint}")
        if status in {401, 403}:
            return remote.denied(
                f"{self.host} refuses the token for {self._source} ({status}): HF_TOKEN in the credentials Secret is wrong, "
                "expired, or has no right to read this model."
                if token
                else f"{self.host} has no model {self._name} that is public ({status}): its name is wrong, or it is private "
                "and HF_TOKEN is missing in the credentials Secret."
            )
        return remote.unreachable(f"{self.host} answers {status} for {what or self._source}: is HF_ENDPOINT right?")


def _file(sibling: Any) -> RemoteFile:
    """Large files have a SHA-256, small ones the name that git gives to their content."""
    sha256 = sibling.lfs.sha256 if sibling.lfs is not None else None
    checksum = Checksum("sha256", sha256) if sha256 else Checksum("git-sha1", sibling.blob_id) if sibling.blob_id else None
    return RemoteFile(
        path=sibling.rfilename, size=int(sibling.size or 0), tag=sha256 or sibling.blob_id or "", checksum=checksum
    )
