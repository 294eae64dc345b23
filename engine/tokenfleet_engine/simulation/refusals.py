"""What a request is refused with: vLLM's statuses, words and shapes, since clients and routers go by them."""

import json
from typing import Any


class Refused(Exception):
    def __init__(self, status: int, message: str, *, kind: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}}


def invalid(message: str, *, param: str | None = None, value: object = None) -> Refused:
    """The value of a parameter makes no sense. vLLM names parameter and value at the end of its message."""
    if param is not None:
        message += f" (parameter={param})" if value is None else f" (parameter={param}, value={value})"
    return Refused(400, message, kind="BadRequestError", param=param)


def not_simulated(name: str) -> Refused:
    return Refused(400, f"`{name}` is not simulated: leave it out.", kind="BadRequestError", param=name)


def unknown_model(name: object, known: list[str]) -> Refused:
    message = f"The model `{name}` does not exist. Valid aliases: {', '.join(known)}."
    return Refused(404, message, kind="NotFoundError", param="model")


def malformed(kind: str, where: str, message: str, given: object, **context: str) -> Refused:
    """The body is not of the shape that the endpoint reads. In the words of vLLM's own schema check."""
    detail: dict[str, Any] = {"type": kind, "loc": where, "msg": message, "input": _shown(given)}
    if context:
        detail["ctx"] = context
    return Refused(400, f"1 validation error:\n  {detail}", kind="Bad Request", param=where)


def wrong_media_type() -> Refused:
    message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
    return Refused(400, message, kind="Bad Request")


def read_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object."""
    if not body:
        raise malformed("missing", "body", "Field required", None)
    try:
        content = json.loads(body)
    except json.JSONDecodeError as error:
        raise malformed("json_invalid", f"body.{error.pos}", "JSON decode error", {}, error=error.msg) from error
    except ValueError as error:
        raise invalid("There was an error parsing the body") from error
    if not isinstance(content, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise malformed("model_attributes_type", "body", message, content)
    return content


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return f"<{type(value).__name__} of {len(value)} items>"
    return value if isinstance(value, str) else repr(value)
