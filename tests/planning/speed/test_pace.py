"""The time of a step, against what one computes by hand."""

from dataclasses import replace

import pytest

from tests.planning.speed.models import A100, DENSE, H100, IDEAL, MIXED, T4, lighter, on
from tokenfleet.planning.model import Attention, ModelFacts
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.speed.pace import Pace, pace_of
from tokenfleet.planning.speed.shape import Keeping, compute_precision, shape_of

PARAMETERS = 32 * (4096 * 128 * (2 * 32 + 2 * 8) + 3 * 4096 * 14336)
HEAD = 4096 * 128256


def pace(serving: Serving, model: ModelFacts = DENSE, **lengths: float) -> Pace:
    return pace_of(model, serving, IDEAL, **{"input_tokens": 1000, "output_tokens": 200, **lengths})


def test_a_lone_sequence_waits_for_weights_and_its_cache() -> None:
    read = 2 * (PARAMETERS + HEAD) + 1100 * 2 * 32 * 8 * 128 * 2
    assert pace(on(H100)).seconds(1.0) == pytest.approx(read / 3350e9)
    assert pace(on(H100)).parts(1.0).bound == "bandwidth"


def test_a_lone_prompt_computes() -> None:
    computed = 2 * (PARAMETERS * 1000 + HEAD) + 4 * 32 * 32 * 128 * 1000 * 1000 / 2
    assert pace(on(H100)).seconds(0.0, 1.0) == pytest.approx(computed / 989e12)
    assert pace(on(H100)).parts(0.0, 1.0).bound == "compute"


def test_what_the_prefix_cache_has_is_not_computed_but_looked_at() -> None:
    read = 2 * (PARAMETERS + HEAD) / 3350e9
    looked_at = 4 * 32 * 32 * 128 * (100 * 900 + 100 * 100 / 2) / 989e12
    assert pace(on(H100), cached_share=0.9).seconds(0.0, 1.0) == pytest.approx(read + looked_at)


def test_the_sum_of_the_parts_is_the_step() -> None:
    for model in (DENSE, MIXED):
        parts = pace(on(H100, tensor=2), model).parts(17.0, 0.3)
        expected = max(parts[0:2]) + max(parts[2:4]) + max(parts[4:6]) + sum(parts[6:])
        assert pace(on(H100, tensor=2), model).seconds(17.0, 0.3) == pytest.approx(expected)


def test_a_batch_reads_the_experts_that_its_tokens_are_routed_to() -> None:
    """Two of eight: one token reads a quarter of them, four tokens 1 - 0.75^4."""
    whole = shape_of(MIXED, on(H100)).expert_bytes / 3350e9
    assert pace(on(H100), MIXED).parts(1.0).routed_weights == pytest.approx(whole / 4)
    assert pace(on(H100), MIXED).parts(4.0).routed_weights == pytest.approx(whole * (1 - 0.75**4))


def test_an_expert_computes_for_the_tokens_that_come_to_it() -> None:
    """Two experts of 3 * 4096 * 14336 weights in each of 32 layers."""
    assert shape_of(MIXED, on(H100)).routed_flops == pytest.approx(2 * 2 * 32 * 3 * 4096 * 14336)


def test_devices_that_share_a_layer_share_its_work_and_talk_twice_a_layer() -> None:
    alone, shared = pace(on(H100)).parts(8.0), pace(on(H100, tensor=4)).parts(8.0)
    assert shared.weights == pytest.approx(alone.weights / 4)
    assert shared.context == pytest.approx(alone.context / 4)
    sent = 8 * 4096 * 2 * 64 * 2 * 3 / 4
    assert shared.wire == pytest.approx(64 * 10e-6 + sent / 450e9)
    assert alone.wire == 0


def test_a_window_bounds_what_a_token_sees() -> None:
    sliding = Keeping(2.0, 3.0, 3.0, 100, 0.0)
    assert sliding.seen(50) == 50
    assert sliding.seen(5000) == 100
    assert sliding.pairs(1000, 0) == 100 * 100 / 2 + 900 * 100
    assert sliding.pairs(1000, 500) == 1000 * 100


def test_a_latent_cache_is_whole_on_every_device() -> None:
    latent = Attention(layers=60, keeping="latent", heads=128, kv_heads=1, head_dim=192, value_dim=128, latent_dim=576)
    model = replace(DENSE, attention=(latent,))
    one, four = (shape_of(model, on(H100, tensor=n)).context_bytes(1000) for n in (1, 4))
    assert one == four == 60 * 576 * 2 * 1000


@pytest.mark.parametrize(
    ("serving", "model", "precision"),
    [
        pytest.param(on(H100), DENSE, "bf16", id="bfloat16 files"),
        pytest.param(on(H100, quantization="fp8"), DENSE, "fp8", id="fp8 where the device has it"),
        pytest.param(on(A100, quantization="fp8"), DENSE, "bf16", id="fp8 weights are widened where it has not"),
        pytest.param(on(H100), lighter(DENSE, 0.25), "bf16", id="4-bit weights are widened"),
        pytest.param(on(T4), DENSE, "fp16", id="a device without bfloat16"),
        pytest.param(on(H100, dtype="float32"), DENSE, "fp32", id="float32 as it is asked for"),
    ],
)
def test_matrices_are_multiplied_in(serving: Serving, model: ModelFacts, precision: str) -> None:
    assert compute_precision(model, serving) == precision


def test_fp8_weights_are_half_as_many_bytes() -> None:
    plain, packed = (shape_of(DENSE, on(H100, quantization=each)).step_bytes for each in (None, "fp8"))
    assert packed == pytest.approx(plain - PARAMETERS)
