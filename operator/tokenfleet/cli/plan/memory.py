"""`tokenfleet plan memory`: whether a model fits, where the memory goes, and what to change where it does not fit.

The figures are planning.memory's; here the options become a Serving, and the answer a table or JSON.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import typer

from tokenfleet import contract
from tokenfleet.api.engine import Quantization
from tokenfleet.api.kv_cache import KvCacheType
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.cli import options
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.plan import memory_tables as tables
from tokenfleet.cli.plan.manifests import read_manifests
from tokenfleet.cli.plan.models import read_model
from tokenfleet.errors import InvalidSpec
from tokenfleet.planning.accelerators import Accelerator, accelerators, find_accelerator
from tokenfleet.planning.memory import Memory, estimate_memory, sequences_at, tensor_sizes
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.serving_of import CPU_KV_CACHE_BYTES, serving_of

Json = dict[str, Any]

_DTYPES: Final = ("auto", "bfloat16", "float16", "float32")


def memory(
    source: Annotated[
        str | None,
        typer.Argument(help="hf://ORG/NAME, s3://…, gs://…, a directory, or a file of its facts.", show_default=False),
    ] = None,
    file: Annotated[Path | None, typer.Option("--filename", "-f", help="An LLMDeployment: its spec says all else.")] = None,
    accelerator: Annotated[str | None, typer.Option("--accelerator", "-a", help="A class; all of them where left out.")] = None,
    tensor: Annotated[int, typer.Option(min=1, help="GPUs that share each layer.")] = 1,
    pipeline: Annotated[int, typer.Option(min=1, help="Groups of layers, each on GPUs of its own.")] = 1,
    dtype: Annotated[str, typer.Option(help="As spec.engine.dtype.")] = "auto",
    quantization: Annotated[str | None, typer.Option(help="As spec.engine.quantization, such as fp8.")] = None,
    kv_dtype: Annotated[str, typer.Option(help="As spec.engine.kvCache.dtype, such as fp8.")] = "auto",
    max_model_len: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a sequence at most; the model's own limit.")
    ] = None,
    utilization: Annotated[float, typer.Option(min=0.01, max=1, help="Share of a GPU's memory that vLLM takes.")] = 0.9,
    block_size: Annotated[int | None, typer.Option(min=1, help="Tokens of a block.")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="Sequences of a step at most.")] = None,
    max_num_batched_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a step at most.")] = None,
    eager: Annotated[bool, typer.Option("--eager", help="Without CUDA graphs.")] = False,
    length: Annotated[int | None, typer.Option(min=1, help="How many sequences of so many tokens find room?")] = None,
    draft: Annotated[str | None, typer.Option(help="A model that guesses ahead, as SOURCE.")] = None,
    revision: Annotated[str | None, typer.Option(help="Of the model: a commit, a branch or a tag.")] = None,
    _accelerators: options.Accelerators = None,
    as_json: options.Json = False,
) -> None:
    """Show whether a model fits, what takes the memory, and how many tokens find room in the rest.

    Only config.json and the headers of the weights are read, wherever they are. Without --accelerator: the fewest GPUs of
    each class. Ends with 1 where it does not fit, and says what to change.

    tokenfleet plan memory hf://Qwen/Qwen3-8B --accelerator nvidia-l4-24gb --max-model-len 16384
    """
    if file is not None:
        model, serving = _of_file(file, source, revision)
        _answer(model, serving, length=length, as_json=as_json)
        return
    if source is None:
        raise Unusable("Name a model, such as hf://Qwen/Qwen3-8B, or the file of an LLMDeployment by -f.")
    _check("--dtype", dtype, _DTYPES)
    _check("--kv-dtype", kv_dtype, get_args(KvCacheType))
    _check("--quantization", quantization, (None, *get_args(Quantization)))
    model = read_model(source, revision=revision)
    serving = Serving(
        accelerator=_class(accelerator or "nvidia"),
        tensor=tensor,
        pipeline=pipeline,
        dtype=dtype,
        quantization=quantization,
        kv_dtype=kv_dtype,
        utilization=utilization,
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        block_size=block_size,
        eager=eager,
        draft=read_model(draft) if draft is not None else None,
        draft_tokens=5 if draft is not None else 0,
    )
    if accelerator is None:
        _compare(model, serving, as_json=as_json)
        return
    if serving.accelerator.resource is None:
        serving = replace(serving, kv_cache_bytes=CPU_KV_CACHE_BYTES)
    _answer(model, serving, length=length, as_json=as_json)


def _check(option: str, value: str | None, allowed: Sequence[str | None]) -> None:
    if value not in allowed:
        raise Unusable(f"{option} {value}: it is one of {', '.join(each for each in allowed if each)}.")


def _check_split(model: ModelFacts, serving: Serving) -> None:
    """vllm/config/model.py:verify_with_parallel_config ends a start that this would end."""
    heads = {each.heads for each in model.attention if each.heads % serving.tensor}
    if heads:
        raise CliError(
            f"{serving.tensor} devices cannot share the {min(heads)} attention heads of {model.architecture}: "
            "tensor must divide them."
        )
    if serving.pipeline > model.layers:
        raise CliError(f"{model.architecture} has {model.layers} layers, too few for a pipeline of {serving.pipeline}.")


def _class(name: str) -> Accelerator:
    try:
        return find_accelerator(name)
    except InvalidSpec as error:
        raise Unusable(error.message) from error


def _of_file(file: Path, source: str | None, revision: str | None) -> tuple[ModelFacts, Serving]:
    """source: where the files are as seen from here; the spec's where left out."""
    found = [each for each in read_manifests(str(file)).ours if each.kind == contract.KIND]
    if len(found) != 1:
        raise Unusable(f"{file} has {len(found)} LLMDeployments, and one is looked at here. tokenfleet plan -f takes several.")
    spec = found[0].spec()
    assert isinstance(spec, LLMDeploymentSpec)
    model = read_model(source or spec.model.source, revision=revision if source else spec.model.revision)
    speculative, draft = spec.engine.speculative, None
    if speculative is not None and speculative.draft_model is not None:
        draft = read_model(speculative.draft_model, revision=speculative.draft_revision)
    return model, serving_of(spec, _class(spec.accelerator), draft=draft)


def _answer(model: ModelFacts, serving: Serving, *, length: int | None, as_json: bool) -> None:
    _check_split(model, serving)
    found = estimate_memory(model, serving)
    if serving.accelerator.memory is None and serving.accelerator.resource is not None:
        raise Unusable(
            f"The memory of {serving.accelerator.name} is not known: it is any GPU of its kind. Name the class that it is of, "
            "such as nvidia-l4-24gb; `tokenfleet accelerators` lists them."
        )
    at = sequences_at(model, serving, found, length) if length is not None else None
    if as_json:
        typer.echo(json.dumps(as_body(model, serving, found) | ({} if at is None else {"length": length, "sequences": at})))
    else:
        tables.show(model, serving, found, length=length, sequences=at)
    if not found.fits:
        ways = "".join(f"\n  - {fix}" for fix in found.fixes) or "\n  - no class of accelerators here is large enough"
        raise CliError(f"{tables.size(found.shortage)} are missing on each device. Any one of these makes it fit:{ways}")


def _compare(model: ModelFacts, serving: Serving, *, as_json: bool) -> None:
    """The fewest devices of each class that the model fits on."""
    rows = [fewest(model, replace(serving, accelerator=each)) for each in accelerators().values() if each.plannable]
    if as_json:
        typer.echo(json.dumps([as_body(model, each, found) for each, found in rows]))
    else:
        tables.show_classes(model, rows)
    if not any(found.fits for _, found in rows):
        raise CliError("It fits on no class of accelerators. Lower --max-model-len, or quantize: --quantization fp8.")


def fewest(model: ModelFacts, serving: Serving) -> tuple[Serving, Memory]:
    """As many devices as it takes; where no number is enough, the largest that can share a layer."""
    found = None
    for size in tensor_sizes(model, serving.accelerator):
        wider = replace(serving, tensor=size)
        found = (wider, estimate_memory(model, wider, fixes=False))
        if found[1].fits:
            break
    return found or (serving, estimate_memory(model, serving, fixes=False))


def as_body(model: ModelFacts, serving: Serving, found: Memory) -> Json:
    return {
        "architecture": model.architecture,
        "parameters": model.parameters,
        "accelerator": serving.accelerator.name,
        "devices": serving.devices,
        "tensor": serving.tensor,
        "pipeline": serving.pipeline,
        "fits": found.fits,
        "memory": asdict(found) | {"fixes": list(found.fixes)},
    }
