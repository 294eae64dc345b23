"""Models in S3, or in what speaks its API (AWS_ENDPOINT_URL): objects below a prefix, each read as long as its ETag stays.

aiobotocore signs, finds credentials (environment, web identity, instance) and follows buckets to their region; without
credentials, public objects alone. Its own retries are off. The checksum is the best that a HEAD of the object shows.
"""

import base64
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.store import http, remote
from tokenfleet_engine.store.listing import Checksum, Listing, RemoteFile, digest
from tokenfleet_engine.store.remote import Transient
from tokenfleet_engine.store.sources import Source

CONNECTIONS: Final = 64
BLOCK: Final = 1 << 20
"""At most so much is taken from a connection at once."""
FULL_CHECKSUMS: Final = {
    "ChecksumSHA256": "sha256",
    "ChecksumCRC32C": "crc32c",
    "ChecksumCRC32": "crc32",
    "ChecksumSHA1": "sha1",
}
"""What a HEAD calls them, the strongest first."""
_DENIED: Final = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}


class S3:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._prefix = f"{source.path}/" if source.path else ""
        self._endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        self._region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._anonymous = False

    @property
    def host(self) -> str:
        return urlsplit(self._endpoint).netloc or "S3 (Amazon)"

    async def listing(self) -> Listing:
        files: list[RemoteFile] = []
        async with self._explained(""):
            client = await self._opened()
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._source.place, Prefix=self._prefix)
            async for page in pages:
                files += [
                    RemoteFile(
                        path=item["Key"].removeprefix(self._prefix), size=int(item["Size"]),
                        tag=item.get("ETag", "").strip('"'), version=item.get("ETag", ""),
                    )
                    for item in page.get("Contents", ()) if not item["Key"].endswith("/")
                ]  # fmt: skip
        if not files:
            raise remote.missing(f"There is nothing below {self._source}/: bucket {self._source.place} has no such prefix.")
        return Listing(digest(files), tuple(files))

    async def checksum(self, file: RemoteFile) -> Checksum | None:
        async with self._explained(file.path):
            client = await self._opened()
            head = await client.head_object(Bucket=self._source.place, Key=self._prefix + file.path, ChecksumMode="ENABLED")
        if found := _checksum(head, file.tag):
            return found
        count = file.tag.rpartition("-")[2]
        if "-" not in file.tag or not count.isdigit() or _encrypted(head):
            return None
        try:
            first, last = [await self._part_bytes(file, number) for number in (1, int(count))]
        except EngineFailure:  # not every server knows this question
            return None
        return _of_parts(file, first, last, int(count))

    async def _part_bytes(self, file: RemoteFile, number: int) -> int:
        async with self._explained(file.path):
            client = await self._opened()
            part = await client.head_object(Bucket=self._source.place, Key=self._prefix + file.path, PartNumber=number)
        return int(part.get("ContentLength", 0))

    async def read(self, file: RemoteFile, start: int, end: int) -> AsyncGenerator[bytes]:
        unchanged = {"IfMatch": file.version} if file.version else {}
        async with self._explained(file.path):
            client = await self._opened()
            answer = await client.get_object(
                Bucket=self._source.place, Key=self._prefix + file.path, Range=f"bytes={start}-{end - 1}", **unchanged
            )
            if not answer.get("ContentRange", f"bytes {start}-").startswith(f"bytes {start}-"):
                raise Transient(f"{self.host} sent another range than was asked for")
            if "ContentRange" not in answer and start:
                raise remote.unreachable(f"{self.host} does not serve ranges of files.")
            left = end - start
            async with answer["Body"] as body:
                while left > 0 and (data := await body.read(BLOCK)):
                    yield data[:left]
                    left -= len(data)

    async def close(self) -> None:
        await self._stack.aclose()

    async def _opened(self) -> Any:
        if self._client is None:
            from aiobotocore.config import AioConfig
            from aiobotocore.session import get_session
            from botocore import UNSIGNED

            session = get_session()
            self._anonymous = await session.get_credentials() is None
            config = AioConfig(
                connect_timeout=http.CONNECT_SECONDS, read_timeout=http.SILENCE_SECONDS, max_pool_connections=CONNECTIONS,
                retries={"total_max_attempts": 1, "mode": "standard"}, response_checksum_validation="when_required",
                s3={"addressing_style": "path" if self._endpoint else "auto"},
                **({"signature_version": UNSIGNED} if self._anonymous else {}),
            )  # fmt: skip
            self._client = await self._stack.enter_async_context(
                session.create_client(
                    "s3", region_name=self._region or "us-east-1", endpoint_url=self._endpoint or None, config=config
                )
            )
        return self._client

    @asynccontextmanager
    async def _explained(self, what: str) -> AsyncIterator[None]:
        """What botocore and aiohttp raise, as failures of ours."""
        import aiohttp
        from botocore import exceptions

        try:
            yield
        except exceptions.ClientError as error:
            raise self._refused(error.response, what) from error
        except (exceptions.PartialCredentialsError, exceptions.CredentialRetrievalError) as error:
            raise remote.denied(f"There are no usable credentials for {self._source}: {error}") from error
        except (exceptions.ParamValidationError, exceptions.InvalidRegionError) as error:
            raise remote.missing(f"{self._source} cannot be asked for: {' '.join(str(error).split())}") from error
        except (exceptions.BotoCoreError, aiohttp.ClientError, OSError) as error:
            raise Transient(f"{self.host} cannot be reached, or broke off ({_cause(error)})") from error

    def _refused(self, response: dict[str, Any], what: str) -> EngineFailure | Transient:
        code = str(response.get("Error", {}).get("Code", ""))
        metadata = response.get("ResponseMetadata", {})
        status, headers = int(metadata.get("HTTPStatusCode", 0)), metadata.get("HTTPHeaders", {})
        place = f"{self._source}/{what}" if what else str(self._source)
        if http.passing(status) or code in {"SlowDown", "RequestTimeout", "InternalError"}:
            after = http.retry_after({"Retry-After": headers.get("retry-after", "")})
            return Transient(f"{self.host} answers {status} {code}", retry_after=after)
        if status in {401, 403} or code in _DENIED:
            fix = (
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the credentials Secret"
                if self._anonymous
                else "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the credentials Secret, and that they may list and "
                f"read bucket {self._source.place} (s3:ListBucket, s3:GetObject)"
            )
            return remote.denied(f"{self.host} refuses {place} ({status} {code}): {fix}.")
        if status == 404 and (not what or code == "NoSuchBucket"):
            return remote.missing(f"{self.host} has no bucket {self._source.place}.")
        if status in {404, 412}:
            return remote.changed(place)
        return remote.unreachable(
            f"{self.host} answers {status} {code} for {place}: are AWS_ENDPOINT_URL and AWS_REGION right?"
        )


def _checksum(head: dict[str, Any], tag: str) -> Checksum | None:
    if len(tag) == 32 and not _encrypted(head):
        return Checksum("md5", tag)
    if head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
        for name, algorithm in FULL_CHECKSUMS.items():
            if (value := head.get(name)) and "-" not in value:
                return Checksum(algorithm, base64.b64decode(value).hex())
    return None


def _encrypted(head: dict[str, Any]) -> bool:
    """With a key of the customer's or of KMS, where the ETag is no MD5."""
    return "kms" in str(head.get("ServerSideEncryption", "")) or "SSECustomerAlgorithm" in head


def _of_parts(file: RemoteFile, first: int, last: int, count: int) -> Checksum | None:
    """Where all parts but the last are as large as the first; others cannot be told without asking for each."""
    even = 0 < last <= first and first * (count - 1) + last == file.size
    return Checksum("md5-parts", file.tag, first) if even else None


def _cause(error: Exception) -> str:
    inner = getattr(error, "kwargs", {}).get("error", error)
    return str(getattr(inner, "strerror", None) or inner or type(inner).__name__)[:200]
