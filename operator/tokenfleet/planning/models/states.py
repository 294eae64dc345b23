"""How large the state of a recurrent layer is: Mamba, gated delta nets, short convolutions. Of one sequence, on one device.

As the get_mamba_state_shape_from_config of each model in vLLM 0.32 has it (model_executor/models), with the shapes of
model_executor/layers/mamba/mamba_utils.py:MambaStateShapeCalculator. A kind that is not in the table raises UnknownModel.
"""

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType
from typing import Final

from tokenfleet.planning.models.fields import HIDDEN, Config, UnknownModel, required

_BYTES: Final[Mapping[str, int]] = MappingProxyType({"float32": 4, "bfloat16": 2, "float16": 2})


def state_bytes(text: Config, *, dtype: str) -> tuple[int, int]:
    """Of one layer, and likewise where the recurrence is in float32.

    dtype: what the model computes in, which the state has where its configuration names no other.
    """
    kind = str(text.get("model_type"))
    shapes = _SHAPES.get(kind)
    if shapes is None:
        raise UnknownModel(
            f"config.json is of a {kind or 'nameless'} model with recurrent layers, whose state cannot be told. It can be "
            f"told of {', '.join(sorted(_SHAPES))}."
        )
    convolution, recurrent = shapes(text)
    own = _BYTES.get(dtype, 2)
    named = text.get("mamba_ssm_dtype") or text.get("mamba_ssm_cache_dtype")
    return convolution * own + recurrent * _BYTES.get(str(named), own), convolution * own + recurrent * _BYTES["float32"]


def _gated_delta_net(text: Config) -> tuple[int, int]:
    keys, values = (required(text, (f"linear_num_{side}_heads",)) for side in ("key", "value"))
    key_dim, value_dim = (required(text, (f"linear_{side}_head_dim",)) for side in ("key", "value"))
    width = 2 * key_dim * keys + value_dim * values
    return width * (required(text, ("linear_conv_kernel_dim",)) - 1), values * value_dim * key_dim


def _mamba1(text: Config) -> tuple[int, int]:
    width = required(text, ("mamba_expand",)) * required(text, HIDDEN)
    return width * (required(text, ("mamba_d_conv",)) - 1), width * required(text, ("mamba_d_state",))


def _mamba2(text: Config) -> tuple[int, int]:
    width = required(text, ("mamba_expand",)) * required(text, HIDDEN)
    return _state_space(
        text, width, groups="mamba_n_groups", heads="mamba_n_heads", head="mamba_d_head", state="mamba_d_state",
        kernel="mamba_d_conv",
    )  # fmt: skip


def _nemotron(text: Config) -> tuple[int, int]:
    width = required(text, ("mamba_num_heads",)) * required(text, ("mamba_head_dim",))
    return _state_space(
        text, width, groups="n_groups", heads="mamba_num_heads", head="mamba_head_dim", state="ssm_state_size",
        kernel="conv_kernel",
    )  # fmt: skip


def _state_space(text: Config, width: int, *, groups: str, heads: str, head: str, state: str, kernel: str) -> tuple[int, int]:
    size = required(text, (state,))
    convolved = width + 2 * required(text, (groups,)) * size
    return convolved * (required(text, (kernel,)) - 1), prod((required(text, (heads,)), required(text, (head,)), size))


def _short_convolution(text: Config) -> tuple[int, int]:
    return required(text, ("conv_dim", *HIDDEN)) * (required(text, ("conv_L_cache",)) - 1), 0


_SHAPES: Final[Mapping[str, Callable[[Config], tuple[int, int]]]] = MappingProxyType(
    {
        "qwen3_next": _gated_delta_net,
        "qwen3_5_text": _gated_delta_net,
        "qwen3_5_moe_text": _gated_delta_net,
        "jamba": _mamba1,
        "bamba": _mamba2,
        "granitemoehybrid": _mamba2,
        "nemotron_h": _nemotron,
        "lfm2": _short_convolution,
    }
)
"""By model_type: numbers that the convolution and the recurrence keep."""
