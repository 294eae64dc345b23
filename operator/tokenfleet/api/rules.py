"""Cross-field rules of the API: each is written twice, as CEL for the API server and as Python for everyone else.

A rule stands beside the model that it speaks of, in the class's `rules`. `Ruled` checks the Python half at validation;
crd.py writes the CEL half into the schema. One table of good and bad specs runs against both halves in the tests, so that
they cannot drift. The CEL half may take defaults for granted: the API server fills them in before it looks at the rules.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `cel` and `holds` say the same of the object they are attached to; `message` says the fix."""

    cel: str
    message: str
    holds: Callable[[Any], bool]


class Ruled(BaseModel):
    """Base of every model of the API: camelCase outside, snake_case inside, unknown fields refused, rules checked."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True, frozen=True)
    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        for rule in self.rules:
            if not rule.holds(self):
                raise ValueError(rule.message)
        return self


def matches(pattern: str, text: str) -> bool:
    """As the API server's regular expressions have it: `$` is the end of the text, also where that is a line break."""
    return re.search(pattern.replace("$", r"\Z"), text) is not None


def distinct(names: Iterable[str]) -> bool:
    """Whether none of them stands there twice."""
    listed = list(names)
    return len(set(listed)) == len(listed)
