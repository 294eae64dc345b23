"""A dialogue: prompts come in, answers stream out, and what people type on the way is obeyed.

On a terminal Ctrl-C ends the answer and not the dialogue. Elsewhere each line is a prompt, and the first refusal ends all.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, TextIO

from tokenfleet.cli.chat.conversation import Answer, Conversation, Json, Settings
from tokenfleet.cli.chat.server import NoChatTemplate
from tokenfleet.cli.errors import CliError

_QUIET_SECONDS: Final = 2.0
HELP: Final = "/system TEXT sets what the model is told first, /reset forgets what was said, /quit or Ctrl-D ends."


class Answering(Protocol):
    def events(self, conversation: Conversation, settings: Settings) -> AsyncIterator[Json]: ...


@dataclass(slots=True, kw_only=True)
class Dialogue:
    server: Answering
    settings: Settings
    clock: Callable[[], float]
    conversation: Conversation = field(default_factory=Conversation)
    out: TextIO = field(default_factory=lambda: sys.stdout)
    notes: TextIO = field(default_factory=lambda: sys.stderr)
    as_json: bool = False
    wakes: bool = False
    """No replica runs, and the first request starts one."""
    _waiter: asyncio.Task[None] | None = None

    def command(self, line: str) -> bool:
        """Obey a line that begins with a slash; False: it ends the dialogue."""
        word, _, rest = line.partition(" ")
        if word in ("/quit", "/exit"):
            return False
        if word == "/reset":
            self.conversation = self.conversation.reset()
            self.note("Forgotten.")
        elif word == "/system":
            self.conversation = Conversation(rest.strip() or None, plain=self.conversation.plain)
            self.note("A new conversation, with that said first." if rest.strip() else "A new conversation.")
        else:
            self.note(HELP)
        return True

    async def ask(self, prompt: str) -> None:
        """Stream one answer. Raises CliError, and forgets the prompt then; what was broken off is forgotten too."""
        before = self.conversation
        try:
            await self._ask(prompt)
        except NoChatTemplate:
            self.note("The model has no chat template, so it continues the text instead of answering it.")
            self.conversation = Conversation(before.system, before.turns, plain=True)
            await self._ask(prompt)

    async def _ask(self, prompt: str) -> None:
        asked, answer = self.conversation.asked(prompt), Answer(sent=self.clock())
        async with self._waiting():
            events = self.server.events(asked, self.settings)
            async for event in events:
                if text := answer.take(event, self.clock()):
                    self._clear()
                    self._write(text)
        self.wakes = False
        self.conversation = asked.answered(answer.text)
        if self.as_json:
            self.out.write(json.dumps(answer.as_json(prompt)) + "\n")
        elif not answer.text.endswith("\n"):
            self.out.write("\n")
        self.out.flush()
        if not self.as_json:
            self.note(answer.figures() or "The answer is empty.")

    def note(self, text: str) -> None:
        dim = self.notes.isatty()
        self.notes.write(f"\x1b[2m{text}\x1b[0m\n" if dim else f"{text}\n")
        self.notes.flush()

    def _write(self, text: str) -> None:
        if not self.as_json:
            self.out.write(text)
            self.out.flush()

    @contextlib.asynccontextmanager
    async def _waiting(self) -> AsyncIterator[None]:
        """Say how long there has been no first token, where that takes longer than one likes to wait unsure."""
        if self.wakes:
            self.note("No replica runs: this request wakes the model.")
        self._waiter = asyncio.create_task(self._tell(self.clock()))
        try:
            yield
        finally:
            self._clear()

    async def _tell(self, began: float) -> None:
        await asyncio.sleep(_QUIET_SECONDS)
        what = "waking the model" if self.wakes else "waiting for the first token"
        while self.notes.isatty():
            self.notes.write(f"\r\x1b[2m… {what}, {self.clock() - began:.0f} s\x1b[0m\x1b[K")
            self.notes.flush()
            await asyncio.sleep(1.0)

    def _clear(self) -> None:
        if self._waiter is not None:
            self._waiter.cancel()
            self._waiter = None
            if self.notes.isatty():
                self.notes.write("\r\x1b[K")
                self.notes.flush()


def talk(dialogue: Dialogue, runner: asyncio.Runner, *, lines: Callable[[str], str]) -> None:
    """Until the end of the input. lines: asks for one with a prompt, as `input` does."""
    dialogue.note(f"Talking to {dialogue.settings.model}. {HELP}")
    while True:
        try:
            line = lines("> ").strip()
        except EOFError:
            dialogue.note("")
            return
        except KeyboardInterrupt:
            dialogue.note("\nCtrl-D ends.")
            continue
        if line.startswith("/"):
            if not dialogue.command(line):
                return
        elif line:
            _answer(dialogue, runner, line)


def _answer(dialogue: Dialogue, runner: asyncio.Runner, line: str) -> None:
    try:
        runner.run(dialogue.ask(line))
    except KeyboardInterrupt:
        dialogue.note("\nBroken off; the model does not know of this turn.")
    except CliError as error:
        dialogue.note(str(error))
