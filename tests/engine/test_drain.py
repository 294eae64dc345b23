"""The wait of a goodbye, with an engine of our making and a clock that moves when it sleeps."""

from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tokenfleet import contract
from tokenfleet_engine.main import main
from tokenfleet_engine.serving import drain as module
from tokenfleet_engine.serving.drain import Drain, Load, LocalEngine
from tokenfleet_engine.serving.local import NotServing

Answer = Load | Exception


@dataclass
class FakeEngine:
    """Answers with each of `answers` in turn, then with the last for ever."""

    answers: list[Answer]
    asked: list[str] = field(default_factory=list)

    def drain(self) -> Load:
        return self._answer("drain")

    def load(self) -> Load:
        return self._answer("load")

    def _answer(self, question: str) -> Load:
        self.asked.append(question)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Clock:
    now: float = 0.0
    gone_after: float = float("inf")

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def gone(self) -> bool:
        return self.now >= self.gone_after


def _run(*answers: Answer, timeout: float = 60, gone_after: float = float("inf")) -> tuple[bool, float, list[str]]:
    """Whether it came to rest, how long that took, and what was said."""
    clock, said = Clock(gone_after=gone_after), list[str]()
    engine = FakeEngine(list(answers))
    busy: Callable[[], float] = clock
    done = Drain(engine=engine, timeout=timeout, say=said.append, clock=busy, sleep=clock.sleep, gone=clock.gone).run()
    return done, clock.now, said


def test_it_waits_until_nothing_is_in_flight_and_a_moment_more() -> None:
    done, took, said = _run(Load(2), Load(2), Load(1), Load(0))
    assert done
    assert took == pytest.approx(3 * module.POLL_SECONDS + module.SETTLE_SECONDS)
    assert "2 in flight" in said[0]
    assert "nothing in flight" in said[-1]


def test_an_idle_engine_goes_after_the_moment_alone() -> None:
    done, took, _ = _run(Load(0))
    assert (done, took) == (True, module.SETTLE_SECONDS)


def test_it_gives_up_at_the_deadline_and_says_how_many_are_cut() -> None:
    done, took, said = _run(Load(3), timeout=20)
    assert not done
    assert took == pytest.approx(20, abs=module.POLL_SECONDS)
    assert "3 requests are cut off" in said[-1]


def test_the_deadline_counts_from_when_the_drain_began() -> None:
    done, took, _ = _run(Load(1, draining_seconds=55), Load(1), timeout=60)
    assert not done
    assert took == pytest.approx(5, abs=module.POLL_SECONDS)


def test_after_a_drain_that_ran_out_it_does_not_wait_again() -> None:
    done, took, _ = _run(Load(1, draining_seconds=600), timeout=600)
    assert (done, took) == (False, 0)


def test_where_nothing_listens_it_returns_at_once() -> None:
    done, took, said = _run(NotServing("refused"))
    assert (done, took) == (True, 0)
    assert "does not serve" in said[0]


def test_an_engine_that_ends_meanwhile_is_not_waited_for() -> None:
    done, took, _ = _run(Load(5), Load(5), NotServing("refused"))
    assert done
    assert took < 5


def test_a_busy_engine_is_asked_again() -> None:
    done, _, said = _run(TimeoutError(), TimeoutError(), Load(0))
    assert done
    assert "taken for dead" not in " ".join(said)


def test_it_reports_while_it_waits() -> None:
    _, _, said = _run(Load(4), timeout=35)
    assert sum("s left" in line for line in said) == 3


def test_the_wait_ends_when_somebody_is_in_a_hurry() -> None:
    _, took, _ = _run(Load(4), timeout=600, gone_after=2)
    assert took < 4


def test_the_command_returns_zero_where_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    port = server.server_port
    server.server_close()
    assert main(["drain", "--port", str(port), "--timeout", "5"]) == 0
    assert "does not serve" in capsys.readouterr().out


def test_the_engine_is_asked_over_http_on_the_paths_of_the_contract() -> None:
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            seen.append(f"{self.command} {self.path}")
            body = b'{"draining": true, "in_flight": 2, "draining_seconds": 1.5}'
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        engine = LocalEngine(port=server.server_port)
        assert engine.drain() == engine.load() == Load(2, 1.5)
        server.shutdown()
    assert seen == [f"POST {contract.PATH_ENGINE_DRAIN}", f"GET {contract.PATH_ENGINE_LOAD}"]


def test_an_answer_that_is_not_ours_is_no_engine() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(NotServing):
            LocalEngine(port=server.server_port).drain()
        server.shutdown()
