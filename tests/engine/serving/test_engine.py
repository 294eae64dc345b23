"""vLLM's own answers, out of the state of an application like its own."""

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.engine.serving.stand_ins import Client, Server
from tokenfleet_engine.serving.admission import Admission
from tokenfleet_engine.serving.engine import VllmEngine, find_engine


class EngineClient:
    """vLLM's AsyncLLM, as far as it sleeps."""

    def __init__(self) -> None:
        self.level = 0

    async def sleep(self, level: int) -> None:
        self.level = level

    async def wake_up(self) -> bool:
        self.level = 0
        return True

    async def is_sleeping(self) -> bool:
        return self.level > 0


def _app(*, sleep: bool = True) -> Any:
    config = SimpleNamespace(
        scheduler_config=SimpleNamespace(max_num_seqs=2), model_config=SimpleNamespace(enable_sleep_mode=sleep)
    )
    served = SimpleNamespace(base_model_paths=[SimpleNamespace(name="demo")], lora_requests={"sql": object()})
    return SimpleNamespace(
        state=SimpleNamespace(engine_client=EngineClient(), vllm_config=config, openai_serving_models=served)
    )


async def test_what_vllms_state_tells() -> None:
    engine = find_engine({"type": "http", "app": _app()})
    assert engine is not None
    assert (engine.max_sequences, engine.no_sleep, list(engine.models())) == (2, None, ["demo", "sql"])
    await engine.sleep()
    assert await engine.is_sleeping()
    assert await engine.wake()


async def test_without_sleep_mode_it_says_which_field_to_set() -> None:
    assert "Set spec.engine.sleep to true" in str(VllmEngine(_app(sleep=False).state).no_sleep)


@pytest.mark.parametrize(
    "scope",
    [
        pytest.param({"type": "http"}, id="an application that is not FastAPI's"),
        pytest.param({"type": "http", "app": SimpleNamespace(state=SimpleNamespace())}, id="one that is not vLLM's"),
        pytest.param(
            {"type": "http", "app": SimpleNamespace(state=SimpleNamespace(engine_client=None))}, id="vLLM without an engine"
        ),
    ],
)
def test_where_there_is_no_engine(scope: dict[str, Any]) -> None:
    assert find_engine(scope) is None


async def test_admission_meets_the_engine_with_the_first_request(server: Server, registry: CollectorRegistry) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await admission({**scope, "app": fastapi}, receive, send)

    fastapi, admission = _app(), Admission(server, environment={}, registry=registry)
    server.parts = [b'{"model":"sql"}']
    await Client(app)("POST", "/v1/completions")
    assert registry.get_sample_value("llm_requests_total", {"model": "sql", "status": "200"}) == 1
