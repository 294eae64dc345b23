"""What a router's environment sets: each variable has an effect, and stands in the docs."""

import re
from pathlib import Path

from tokenfleet.router.wire.limits import Limits
from tokenfleet.settings import RouterSettings

DOCS = Path(__file__).parents[2] / "docs/routing.md"
STATIC = {"TOKENFLEET_ROUTER_STATIC_REPLICAS": "127.0.0.1:8001", "TOKENFLEET_ROUTER_STATIC_MODEL": "llama"}


class Environment(dict[str, str]):
    """Knows what it was asked for."""

    def __init__(self, **values: str) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.asked.add(name)
        return super().get(name, default)


def test_the_docs_name_what_is_read_and_nothing_else() -> None:
    environment = Environment(**STATIC)
    RouterSettings.from_environment(environment)
    assert set(re.findall("TOKENFLEET_[A-Z_]+", DOCS.read_text())) == environment.asked


def test_limits_are_those_of_the_environment_and_the_rest_is_for_the_spec_to_say() -> None:
    settings = RouterSettings.from_environment({**STATIC, "TOKENFLEET_ROUTER_SILENCE_SECONDS": "7"})
    assert Limits.of(settings) == Limits(first_byte_seconds=7, silence_seconds=7)
