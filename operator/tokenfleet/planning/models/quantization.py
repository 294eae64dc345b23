"""How a model's files are quantized, as vLLM calls it, and how many bits one weight has.

As vLLM 0.32 reads quantization_config (transformers_utils/model_arch_config_convertor.py:_normalize_quantization_config, and
the from_config of each method in model_executor/layers/quantization).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tokenfleet.planning.models.fields import Config, text_config

_FP4: Final = frozenset({"mxfp4", "modelopt_fp4", "nvfp4", "gpt_oss_mxfp4"})


@dataclass(frozen=True, slots=True)
class Quantization:
    method: str | None
    """None: the files are not quantized."""
    bits: int = 16
    """Of one weight."""
    kv_dtype: str | None = None
    """That the files want for the KV cache."""


def quantization_of(config: Config) -> Quantization:
    """Of the whole configuration or, where that says nothing, of the language model's."""
    body = next((found for each in (config, text_config(config)) if (found := _body(each)) is not None), None)
    if body is None:
        return Quantization(None)
    method = _method(body)
    return Quantization(method, bits=_bits(body, method), kv_dtype=_kv_dtype(body))


def _body(config: Config) -> Mapping[str, Any] | None:
    body = config.get("quantization_config") or config.get("compression_config")
    return body if isinstance(body, Mapping) else None


def _method(body: Mapping[str, Any]) -> str:
    algorithm = str(_inner(body).get("quant_algo") or body.get("quant_algo") or "").upper()
    if algorithm:
        return "modelopt_fp4" if "NVFP4" in algorithm else "modelopt"
    return str(body.get("quant_method") or "unknown").lower().replace("compressed_tensors", "compressed-tensors")


def _bits(body: Mapping[str, Any], method: str) -> int:
    if method in _FP4:
        return 4
    for name in ("bits", "w_bit", "weight_bits"):
        if isinstance(value := body.get(name), int) and value > 0:
            return value
    for group in _groups(body):
        weights = group.get("weights")
        if isinstance(weights, Mapping) and isinstance(value := weights.get("num_bits"), int):
            return value
    if method == "bitsandbytes":
        return 4 if body.get("load_in_4bit") or body.get("_load_in_4bit") else 8
    return 8


def _groups(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = body.get("config_groups")
    return [each for each in groups.values() if isinstance(each, Mapping)] if isinstance(groups, Mapping) else []


def _kv_dtype(body: Mapping[str, Any]) -> str | None:
    """vllm/utils/torch_utils.py:get_kv_cache_quant_algo_string."""
    named = str(_inner(body).get("kv_cache_quant_algo") or body.get("kv_cache_quant_algo") or "").upper()
    scheme = body.get("kv_cache_scheme")
    if named == "FP8" or (isinstance(scheme, Mapping) and scheme.get("type") == "float" and scheme.get("num_bits") == 8):
        return "fp8"
    return "nvfp4" if named == "NVFP4" else None


def _inner(body: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = body.get("quantization")
    return inner if isinstance(inner, Mapping) else {}
