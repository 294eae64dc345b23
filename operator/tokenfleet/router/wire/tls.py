"""The certificate of the traffic port: tls.crt and tls.key of a mounted Secret, read again when they change.

A changed pair makes a new SSLContext, which new handshakes take; connections that are open go on with the old one. A pair that
cannot be used is told once and changes nothing. Without any pair since the start there is no context, and nobody listens.
"""

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
_CHAIN, _KEY = "tls.crt", "tls.key"

_Stamp = tuple[tuple[int, int, int] | None, ...]


class Certificates:
    """Of one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: _Stamp | None = None
        self._available = asyncio.Event()
        self._context: ssl.SSLContext | None = None
        self.trouble = "it has not been read yet"
        """Why the newest pair is not in use; empty where it is."""

    @property
    def context(self) -> ssl.SSLContext | None:
        """For a new handshake; None until there was a pair that can be used."""
        return self._context

    async def available(self) -> None:
        """Return once there is a context."""
        await self._available.wait()

    async def follow(self, *, pause: float = LOOK_SECONDS) -> None:
        """For ever. Only cancelling ends it."""
        while True:
            self.load()
            await asyncio.sleep(pause)

    def load(self) -> None:
        """Take the pair as it is now, if it is another one than before."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        trouble = ""
        try:
            context = context_of(self._directory)
        except FileNotFoundError as error:
            trouble = f"{error.filename or self._directory} is not there"
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            trouble = f"{self._directory / _CHAIN} and {_KEY} cannot be used: {_reason(error)}"
        if stamp != self._stamp():
            return  # The two files may be of two pairs; look again.
        self._seen = stamp
        self.trouble = trouble
        if trouble:
            goes_on = "the one before stays in use" if self._context else "the traffic port stays closed until there is one"
            log.warning("no new certificate: %s; %s", trouble, goes_on)
            return
        log.info("the certificate in %s is %s", self._directory, "renewed" if self._context else "in use")
        self._context = context
        self._available.set()

    def _stamp(self) -> _Stamp:
        """Another value when the files have changed."""
        return tuple(_file_stamp(self._directory / name) for name in (_CHAIN, _KEY))


def _file_stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def context_of(directory: Path) -> ssl.SSLContext:
    """A server's context: TLS 1.2 and later, HTTP/1.1 alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    for name in (_CHAIN, _KEY):  # Else OpenSSL does not say which of them is missing.
        if not (directory / name).is_file():
            raise FileNotFoundError(2, "No such file", str(directory / name))
    context.load_cert_chain(directory / _CHAIN, directory / _KEY, password=_no_password)
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; a router has no passphrase for it")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "the key is not the certificate's"
        return f"they are not a PEM certificate chain and its PEM key ({error.reason or error})"
    return str(error)
