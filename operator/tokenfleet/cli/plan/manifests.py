"""LLMDeployments and LLMRouters out of a file, as kubectl reads it, each with the lines that it stands on.

A mistake is told as `FILE:LINE: KIND NAME: sentence`, a line for each; the sentences are those of the controller's own check.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import PARSERS, Spec
from tokenfleet.cli.errors import Unusable
from tokenfleet.errors import InvalidSpec, TokenfleetError

Json = dict[str, Any]

STDIN: Final = "-"
_PATH: Final = re.compile(r"^((?:spec|metadata)[\w.\[\]]*): ")
_STEP: Final = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


class _Loader(yaml.SafeLoader):
    """Dates stay text, as they do for kubectl."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One object as it is written."""

    body: Json
    origin: str
    """The file's name."""
    node: yaml.Node

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        return str((self.body.get("metadata") or {}).get("name") or "")

    @property
    def namespace(self) -> str | None:
        found = (self.body.get("metadata") or {}).get("namespace")
        return str(found) if found else None

    def where(self, path: str = "") -> str:
        """FILE:LINE of a field, or of the nearest above it that is written."""
        return f"{self.origin}:{_line(self.node, path)}"

    def spec(self) -> Spec:
        """Raises Unusable, with a line for each mistake."""
        try:
            return PARSERS[self.kind](self.name, self.body.get("spec"))
        except InvalidSpec as error:
            raise self.unusable(error) from None

    def unusable(self, error: InvalidSpec) -> Unusable:
        """The same mistakes, each with its place."""
        return Unusable("\n".join(self._told(each) for each in _sentences(error)))

    def _told(self, sentence: str) -> str:
        match = _PATH.match(sentence)
        return f"{self.where(match[1] if match else '')}: {self.kind} {self.name or '(no name)'}: {sentence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """Of a file."""

    ours: tuple[Manifest, ...]
    others: tuple[str, ...]
    """KIND NAME of the objects of other kinds, which are not looked at."""


def read_manifests(file: str) -> Manifests:
    """file: a path, or `-` for what comes in. Raises Unusable: it is not there, is no YAML, or has nothing of ours."""
    origin = "stdin" if file == STDIN else file
    try:
        text = sys.stdin.read() if file == STDIN else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise Unusable(f"{file} cannot be read ({why}): name a file of LLMDeployments, or - for stdin.") from error
    return parse_manifests(text, origin=origin)


def parse_manifests(text: str, *, origin: str) -> Manifests:
    """Raises Unusable likewise."""
    ours: list[Manifest] = []
    others: list[str] = []
    for body, node in _documents(text, origin):
        name = str((body.get("metadata") or {}).get("name") or "")
        if body.get("kind") not in PARSERS or not str(body.get("apiVersion")).startswith(f"{contract.GROUP}/"):
            others.append(f"{body.get('kind') or 'an object without a kind'} {name}".strip())
            continue
        if body["apiVersion"] != contract.API_VERSION:
            raise Unusable(f"{origin}:{_line(node, '')}: {body['kind']} {name}: apiVersion must be {contract.API_VERSION}.")
        ours.append(Manifest(body=body, origin=origin, node=node))
    if not ours:
        beside = f" It has {', '.join(others)}." if others else ""
        raise Unusable(f"{origin} has no {contract.KIND} and no {contract.ROUTER_KIND} of {contract.API_VERSION}.{beside}")
    return Manifests(ours=tuple(ours), others=tuple(others))


def _documents(text: str, origin: str) -> Iterator[tuple[Json, yaml.Node]]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # since check_node said so
            body = loader.construct_document(node)
            if body is None:
                continue
            if not isinstance(body, dict) or not isinstance(body.get("metadata") or {}, dict):
                raise Unusable(f"{origin}:{node.start_mark.line + 1}: this is no object of Kubernetes.")
            yield from _flat(body, node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise Unusable(f"{origin}{line}: this is no YAML: {problem}.") from error
    finally:
        loader.dispose()


def _flat(body: Json, node: yaml.Node) -> Iterator[tuple[Json, yaml.Node]]:
    """The items of a List."""
    items = body.get("items")
    if body.get("kind") != "List" or not isinstance(items, list):
        yield body, node
        return
    for index, item in enumerate(items):
        if isinstance(item, dict):
            yield item, _child(_child(node, "items")[1] or node, index)[1] or node


def _line(node: yaml.Node, path: str) -> int:
    line = node.start_mark.line
    for index, key in _STEP.findall(path):
        named, found = _child(node, int(index) if index else key)
        if named is None or found is None:
            break
        line, node = named.start_mark.line, found
    return int(line) + 1


def _child(node: yaml.Node, key: str | int) -> tuple[yaml.Node, yaml.Node] | tuple[None, None]:
    """Where it is named, and what it is."""
    if isinstance(node, yaml.MappingNode):
        return next(((name, value) for name, value in node.value if name.value == key), (None, None))
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key]
    return None, None


def _sentences(error: TokenfleetError) -> list[str]:
    """parse_spec puts one after another, each with its field before it."""
    return re.split(r"; (?=spec[\w.\[\]]*: )", str(error))
