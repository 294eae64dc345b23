"""Asks a store over HTTP, once: JSON, or a range of a file as it streams in. No waiting, no second try.

What the connection itself fails with, and the statuses that pass by themselves (408, 425, 429, 5xx), become `Transient`; any
other status is `Refused`, which the store that asked explains. URLs stay out of messages: signed ones are credentials.
"""

import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from tokenfleet_engine.store.remote import Transient

CONNECT_SECONDS: Final = 15
SILENCE_SECONDS: Final = 30
"""Without a byte for so long, a connection counts as broken."""
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529})


class Refused(Exception):
    """An answer that another try would not change."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text
        self.headers = headers


class Http:
    """The connections to one store."""

    def __init__(self, url: str) -> None:
        self.host = urlsplit(url).netloc
        self._session: aiohttp.ClientSession | None = None

    async def json(self, url: str, *, headers: Mapping[str, str], params: Mapping[str, str]) -> Any:
        async with self._answer(url, headers=headers, params=params) as answer:
            return await answer.json(content_type=None)

    async def read(
        self, url: str, start: int, end: int, *, headers: Mapping[str, str], params: Mapping[str, str] | None = None
    ) -> AsyncGenerator[bytes]:
        """The bytes from `start` to `end`, or fewer; never others."""
        ranged = {**headers, "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        async with self._answer(url, headers=ranged, params=params or {}) as answer:
            _check_range(answer, start)
            left = end - start
            async for data in answer.content.iter_any():
                yield data[:left]
                left -= len(data)
                if left <= 0:
                    return

    @asynccontextmanager
    async def _answer(
        self, url: str, *, headers: Mapping[str, str], params: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._opened().get(url, headers=headers, params=params) as answer:
                if answer.status >= 400:
                    raise await _refusal(answer, self.host)
                yield answer
        except aiohttp.ClientConnectorDNSError as error:
            raise Transient(f"the name {error.host} is not known to DNS") from error
        except aiohttp.ClientSSLError as error:
            raise Transient(f"no trusted TLS connection with {self.host} ({_cause(error)})") from error
        except aiohttp.ClientConnectorError as error:
            raise Transient(f"{error.host}:{error.port} cannot be reached ({_cause(error)})") from error
        except TimeoutError as error:
            raise Transient(f"{self.host} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Transient(f"the connection with {self.host} broke ({_cause(error)})") from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=trusted()),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS),
                read_bufsize=1 << 20, auto_decompress=False, trust_env=True,
            )  # fmt: skip
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def trusted() -> ssl.SSLContext:
    """The system's certificates or those of SSL_CERT_FILE; certifi's where the image has none."""
    places = ssl.get_default_verify_paths()
    if any(place and Path(place).exists() for place in (os.environ.get("SSL_CERT_FILE"), places.cafile, places.openssl_cafile)):
        return ssl.create_default_context()
    import certifi

    return ssl.create_default_context(cafile=certifi.where())


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds, from a number or a date."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, TypeError):
        return None


def passing(status: int) -> bool:
    return status in _PASSING


async def _refusal(answer: aiohttp.ClientResponse, host: str) -> Exception:
    if passing(answer.status):
        return Transient(f"{host} answers {answer.status} {answer.reason}", retry_after=retry_after(answer.headers))
    text = (await answer.content.read(2000)).decode(errors="replace")
    return Refused(answer.status, text, answer.headers)


def _check_range(answer: aiohttp.ClientResponse, start: int) -> None:
    told = answer.headers.get("Content-Range", "")
    right = told.startswith(f"bytes {start}-") if answer.status == 206 else answer.status == 200 and start == 0
    if not right:
        came = told or "the whole file"
        raise Refused(answer.status, f"a range from byte {start} was asked for, and {came} came", answer.headers)


def _cause(error: BaseException) -> str:
    """What the operating system said, where it said something."""
    inner = getattr(error, "os_error", None) or error
    return str(getattr(inner, "strerror", None) or inner or type(inner).__name__)
