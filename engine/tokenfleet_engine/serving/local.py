"""Asks the engine in this pod, on its loopback port: for the commands that run beside it."""

import http.client
import json
from dataclasses import dataclass
from typing import Any


class NotServing(Exception):
    """Nothing listens: the engine still loads, or is gone."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    content: dict[str, Any]

    @property
    def error(self) -> str:
        """What an error says; empty where it is none."""
        error = self.content.get("error")
        return str(error.get("message", "")) if isinstance(error, dict) else ""


def ask(port: int, method: str, path: str, *, seconds: float) -> Reply:
    """Raises NotServing, or TimeoutError where it listens and does not answer in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        content = json.loads(response.read())
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotServing(str(error)) from error
    finally:
        connection.close()
    if not isinstance(content, dict):
        raise NotServing(f"the answer to {path} is no JSON object")
    return Reply(response.status, content)
