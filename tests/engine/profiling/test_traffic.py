"""Requests while a trace runs, by number and by time, with a clock that moves with each request."""

from dataclasses import dataclass, field

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.profiling.traffic import Sent, prompt, send


@dataclass
class Server:
    """A request takes a second."""

    now: float = 0.0
    fails: bool = False
    prompts: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def complete(self, text: str) -> int:
        self.now += 1.0
        self.prompts.append(text)
        if self.fails:
            raise EngineFailure(contract.REASON_ENGINE_CRASHED, "gone")
        return 5

    def send(self, *, requests: int | None, seconds: float, at_once: int = 1) -> Sent:
        return send(self.complete, requests=requests, seconds=seconds, at_once=at_once, prompt_words=12, clock=self.clock)


def test_so_many_requests_and_no_more() -> None:
    server = Server()
    assert server.send(requests=7, seconds=100, at_once=3) == Sent(answered=7, tokens=35)
    assert len(set(server.prompts)) == 7


def test_requests_go_on_for_so_long() -> None:
    assert Server().send(requests=None, seconds=5).answered == 5


def test_a_number_of_requests_is_bounded_by_time_too() -> None:
    assert Server().send(requests=100, seconds=3).answered == 3


def test_an_engine_that_refuses_is_not_asked_over_and_over() -> None:
    assert Server(fails=True).send(requests=100, seconds=100) == Sent(failed=1, first_failure="gone")


def test_a_prompt_is_as_long_as_asked() -> None:
    assert len(prompt(3, words=40).split()) == 41
    assert prompt(3, words=40).startswith("3. ")
