"""From a request's body to the tokens of its prompt: a completion's text or token numbers, or a chat's messages."""

from collections.abc import Mapping
from typing import Any

from tokenfleet_engine.simulation import text
from tokenfleet_engine.simulation.refusals import invalid, malformed

Pieces = list[bytes]


def completion_prompts(body: Mapping[str, Any]) -> list[Pieces]:
    prompt = body.get("prompt")
    if prompt is None or prompt == "":
        raise invalid("Either prompt or prompt_embeds must be provided and non-empty.", param="prompt")
    if prompt == []:
        raise invalid("You must pass at least one prompt")
    many = isinstance(prompt, list) and not all(isinstance(each, int) for each in prompt)
    return [_pieces(each) for each in (prompt if many else [prompt])]


def _pieces(prompt: object) -> Pieces:
    if isinstance(prompt, str) and prompt:
        return text.split(prompt)
    if isinstance(prompt, list) and prompt and all(isinstance(each, int) and each >= 0 for each in prompt):
        return text.from_numbers(prompt)
    if prompt in ("", []):
        raise invalid("The decoder prompt cannot be empty")
    raise malformed("string_type", "body.prompt", "Input should be a valid string", prompt)


def chat_prompt(body: Mapping[str, Any]) -> Pieces:
    messages = body.get("messages")
    if messages is None:
        raise malformed("missing", "body.messages", "Field required", body)
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise malformed("list_type", "body.messages", "Input should be a valid list", messages)
    if body.get("tools") and body.get("tool_choice", "auto") != "none":
        raise invalid('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
    if not messages:
        raise invalid("Cannot apply chat template to an empty conversation. Provide at least one message.")
    answer, open_ended = body.get("add_generation_prompt", True), bool(body.get("continue_final_message"))
    if answer and open_ended:
        raise invalid(
            "continue_final_message and add_generation_prompt are not compatible. Use continue_final_message when you want the "
            "model to continue the final message, and add_generation_prompt when you want to add a header that will prompt it "
            "to start a new assistant message instead."
        )
    turns = [(str(each.get("role", "user")), _content(each.get("content"))) for each in messages]
    return text.conversation(turns, answer=bool(answer), open_ended=open_ended)


def _content(content: object) -> str:
    """A text, or parts of which only texts can be read."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise malformed("string_type", "body.messages.content", "Input should be a valid string", content)
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise invalid("Only parts of the type text are simulated.", param="messages")
        texts.append(str(part.get("text", "")))
    return "".join(texts)
