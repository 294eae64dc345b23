"""The server of a conversation: an answer as a stream of events, and every refusal as a sentence that says what to do."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tokenfleet.cli.chat.conversation import Conversation, Json, Settings
from tokenfleet.cli.cluster.target import Target
from tokenfleet.cli.errors import CliError

_NO_TEMPLATE = "chat template"
_CONNECT_SECONDS = 15
_DONE = b"[DONE]"


class NoChatTemplate(CliError):
    """The model can only continue a text."""


class Server:
    """What a target answers. To be used and closed on one loop."""

    def __init__(self, target: Target, *, key: str | None) -> None:
        self._target, self._key = target, key
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def models(self) -> list[str]:
        body = await self._get("/models")
        return [str(one["id"]) for one in body.get("data") or ()]

    async def events(self, conversation: Conversation, settings: Settings) -> AsyncIterator[Json]:
        """Of one answer. Raises CliError, NoChatTemplate where the conversation has to be plain."""
        url, body = f"{self._target.base_url}/{conversation.path}", conversation.request(settings)
        try:
            async with self._opened().post(url, json=body) as answer:
                if answer.status != 200:
                    raise self._refusal(answer.status, answer.headers.get("Retry-After"), await answer.text())
                async for event in _events(answer.content):
                    if error := event.get("error"):
                        raise CliError(f"The answer broke off: {_words(error)}")
                    yield event
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error

    async def _get(self, path: str) -> Json:
        try:
            async with self._opened().get(self._target.base_url + path) as answer:
                text = await answer.text()
                if answer.status != 200:
                    raise self._refusal(answer.status, answer.headers.get("Retry-After"), text)
                return dict(json.loads(text))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error
        except ValueError as error:
            raise CliError(f"{self._target.base_url}{path} answers no JSON: is this a server of the OpenAI API?") from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
            connector = aiohttp.TCPConnector(ssl=self._target.ssl if self._target.ssl is not None else True)
            near = self._target.deployment is not None
            self._session = aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector, trust_env=not near)
        return self._session

    def _unreachable(self, error: Exception) -> CliError:
        if self._target.deployment is not None:
            return CliError(f"The router broke the connection off ({error or type(error).__name__}): is its pod still there?")
        return CliError(f"{self._target.base_url} does not answer ({error or type(error).__name__}): is the server up?")

    def _refusal(self, status: int, retry_after: str | None, text: str) -> CliError:
        words = _message(text)
        if status == 401:
            return CliError(f"{_known(self._key)} {_where_keys_are(self._target.deployment)}")
        if status in (429, 503):
            later = f" Try again in {retry_after} s." if retry_after and retry_after.isdecimal() else ""
            return CliError(f"The server refuses the request for now ({status}): {words}{later}")
        if _NO_TEMPLATE in words.lower():
            return NoChatTemplate(words)
        return CliError(f"The server answered {status}: {words}")


def _known(key: str | None) -> str:
    if key:
        return f"The router does not know the key …{key[-4:]}, or it has expired."
    return "The router wants an API key: give one by --key, or in TOKENFLEET_API_KEY."


def _where_keys_are(deployment: Json | None) -> str:
    spec = (deployment or {}).get("spec") or {}
    secret = ((spec.get("router") or {}).get("auth") or {}).get("keysSecret")
    if deployment is None or not secret:
        return "`tokenfleet keys list` shows those that there are."
    place = f"-s {secret} -n {deployment['metadata']['namespace']}"
    return f"`tokenfleet keys list {place}` shows those that there are, and `tokenfleet keys create NAME {place}` makes one."


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[Json]:
    """Server-sent events, each a JSON of its `data:`."""
    pending = b""
    async for chunk in content.iter_any():
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            data = line.removeprefix(b"data:").strip()
            if line.startswith(b"data:") and data != _DONE:
                try:
                    yield dict(json.loads(data))
                except ValueError as error:
                    raise CliError("The server's stream holds something that is no JSON: is it an OpenAI API?") from error


def _message(text: str) -> str:
    try:
        return _words(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:300] or "it gave no reason."


def _words(error: Any) -> str:
    words = str(error.get("message") or error) if isinstance(error, dict) else str(error)
    return words if words.endswith((".", "!", "?")) else f"{words}."
