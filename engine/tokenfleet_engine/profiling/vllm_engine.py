"""vLLM's engine in this process, as the measurement drives it: add, step, clear.

`LLMEngine` with multiprocessing off, so that `step()` is one iteration of the scheduler and nothing runs beside it. What each
step works on is read where it is decided, at the scheduler's own `schedule()`. With several workers (tensor parallelism) a
step still returns only with its tokens, which the workers have copied back from their devices; their memory is asked of them.
"""

import random
from collections.abc import Callable
from typing import Any, Final

from tokenfleet_engine.profiling import devices
from tokenfleet_engine.profiling.devices import Device, Memory
from tokenfleet_engine.profiling.plan import KVCache, Limits
from tokenfleet_engine.profiling.steps import Scheduled, Step, read_schedule

IDLE: Final = Scheduled(sequences=0, decodes=0, prefill_tokens=0, context_tokens=0, attended_tokens=0)


class VllmEngine:
    """Around a vllm.v1.engine.llm_engine.LLMEngine that has loaded its model."""

    def __init__(self, llm: Any, *, device: Device, clock: Callable[[], float], seed: int = 0) -> None:
        self.device: Final = device
        self._llm = llm
        self._clock = clock
        self._random = random.Random(seed)
        self._core = llm.engine_core.engine_core
        self._requests: dict[str, Any] = {}
        self._last = IDLE
        self._added = 0
        self._watch_schedule()
        self.limits: Final = read_limits(llm.vllm_config, self._core.scheduler.kv_cache_config)
        self._free_blocks = self._count_free_blocks()
        self._words = _plain_words(llm)

    def add(self, *, prompt_tokens: int, new_tokens: int) -> None:
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        prompt = TokensPrompt(prompt_token_ids=self._random.choices(self._words, k=prompt_tokens))
        asked = SamplingParams(temperature=0.0, max_tokens=new_tokens, ignore_eos=True, detokenize=False)
        name = self._llm.add_request(f"profile-{self._added}", prompt, asked)
        self._added += 1
        self._requests[name] = self._core.scheduler.requests[name]

    def step(self) -> Step:
        self._last = IDLE
        before = self._count_output()
        self.device.synchronize()
        began = self._clock()
        self._llm.step()
        self.device.synchronize()
        seconds = self._clock() - began
        return Step(self._last, seconds, self._count_output() - before)

    def clear(self) -> None:
        self._llm.abort_request(list(self._requests), internal=True)
        while self._core.scheduler.has_requests():
            self._llm.step()  # an empty one, in which the workers forget the sequences
        self._requests.clear()

    def blocks_in_use(self) -> int:
        return self._free_blocks - self._count_free_blocks()

    def memory(self) -> Memory:
        return devices.total(self._llm.collective_rpc(devices.worker_memory))

    def reset_peak(self) -> None:
        self._llm.collective_rpc(devices.reset_worker_peak)

    def facts(self) -> dict[str, Any]:
        """How it runs, for the report."""
        return read_facts(self._llm.vllm_config)

    def loaded_weight_bytes(self) -> int | None:
        """What loading the model took of the devices' memory, where vLLM measures that (GPUs)."""
        sizes = self._llm.collective_rpc(worker_weight_bytes)
        return sum(sizes) if all(isinstance(size, int) for size in sizes) else None

    def _watch_schedule(self) -> None:
        schedule = self._core.scheduler.schedule

        def watched(*given: Any, **named: Any) -> Any:
            output = schedule(*given, **named)
            lengths = {name: request.num_prompt_tokens for name, request in self._requests.items()}
            self._last = read_schedule(output, prompt_tokens=lengths)
            return output

        self._core.scheduler.schedule = watched

    def _count_output(self) -> int:
        return sum(request.num_output_tokens for request in self._requests.values())

    def _count_free_blocks(self) -> int:
        return int(self._core.scheduler.kv_cache_manager.block_pool.get_num_free_blocks())


def worker_weight_bytes(worker: Any) -> int | None:
    """Runs in a worker of vLLM's."""
    size = getattr(getattr(worker, "model_runner", None), "model_memory_usage", None)
    return None if size is None else int(size)


def read_limits(config: Any, cache: Any) -> Limits:
    """From a VllmConfig and the scheduler's KVCacheConfig."""
    blocks = int(cache.num_blocks)
    return Limits(
        sequence_tokens=int(config.model_config.max_model_len),
        sequences=int(config.scheduler_config.max_num_seqs),
        step_tokens=int(config.scheduler_config.max_num_batched_tokens),
        cache=KVCache(
            blocks=blocks,
            block_bytes=sum(int(tensor.size) for tensor in cache.kv_cache_tensors) // blocks,
            group_tokens=tuple(int(group.kv_cache_spec.block_size) for group in cache.kv_cache_groups),
        ),
    )


def read_facts(config: Any) -> dict[str, Any]:
    model, scheduler, parallel = config.model_config, config.scheduler_config, config.parallel_config
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantization": model.quantization,
        "max_model_len": model.max_model_len,
        "max_num_seqs": scheduler.max_num_seqs,
        "max_num_batched_tokens": scheduler.max_num_batched_tokens,
        "chunked_prefill": bool(scheduler.enable_chunked_prefill),
        "prefix_caching": bool(config.cache_config.enable_prefix_caching),
        "async_scheduling": bool(scheduler.async_scheduling),
        "speculative": getattr(config.speculative_config, "method", None),
        "eager": bool(model.enforce_eager),
        "kv_cache_dtype": str(config.cache_config.cache_dtype),
        "workers": parallel.world_size,
    }


def _plain_words(llm: Any) -> list[int]:
    """Token ids to make prompts of: without those that mean more than text, such as an image's place."""
    special = set(getattr(llm.renderer.tokenizer, "all_special_ids", ()))
    return [token for token in range(int(llm.model_config.get_vocab_size())) if token not in special]
