"""What a process must not load, proven by loading it: import-linter sees our imports, this sees those of libraries too."""

import subprocess
import sys

import pytest

_FORBIDDEN = ("kopf", "pydantic", "torch", "transformers", "vllm", "tokenfleet_engine", "tokenfleet.controller")
_PROGRAM = """
import importlib, sys
importlib.import_module(sys.argv[1])
print("\\n".join(sorted(name for name in sys.argv[2:] if name in sys.modules)))
"""


@pytest.mark.parametrize(
    "module",
    [
        pytest.param("tokenfleet.router.main", id="a router serves without the controller's or the engine's libraries"),
        pytest.param("tokenfleet.contract", id="the contract needs the standard library alone"),
    ],
)
def test_importing_loads_nothing_forbidden(module: str) -> None:
    command = [sys.executable, "-c", _PROGRAM, module, *_FORBIDDEN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def test_a_router_with_a_static_list_does_not_load_kubernetes() -> None:
    command = [sys.executable, "-c", _PROGRAM, "tokenfleet.router.main", "kubernetes"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def test_the_client_that_the_router_uses_loads_nothing_forbidden_but_pydantic_for_its_own_models() -> None:
    forbidden = [name for name in _FORBIDDEN if name != "pydantic"]
    command = [sys.executable, "-c", _PROGRAM, "kubernetes.aio", *forbidden]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
