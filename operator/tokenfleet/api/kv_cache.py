"""`spec.engine.kvCache`: in which form vLLM keeps keys and values, and where else than on the GPU."""

from typing import Literal

from pydantic import Field

from tokenfleet.api.rules import Ruled
from tokenfleet.api.scalars import Size

KvCacheType = Literal[
    "auto",
    "bfloat16",
    "float16",
    "fp8",
    "fp8_e4m3",
    "fp8_e5m2",
    "fp8_per_token_head",
    "int4_per_token_head",
    "int8_per_token_head",
    "nvfp4",
]


class KvCache(Ruled):
    """Keys and values of the tokens that were read, in blocks."""

    dtype: KvCacheType = Field(
        default="auto",
        description="Type of the keys and values. fp8 keeps twice as many tokens as bfloat16 does, a little less exactly. "
        "auto: as the model's.",
    )
    block_size: Literal[16, 32, 64, 128, 256] | None = Field(
        default=None,
        description="Tokens of one block. Whole blocks are what prefix caching finds again. Default: what vLLM takes for the "
        "attention kernel.",
    )
    cpu_offload: Size | None = Field(
        default=None,
        description="Memory of the node, such as 16Gi, where blocks go that the GPU has no room for, and come back from "
        "instead of being computed again; of all GPUs of a replica together. The pod asks for so much more memory. Absent: "
        "none. GPUs only.",
    )
