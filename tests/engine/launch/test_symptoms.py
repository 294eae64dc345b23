"""What is made of vLLM's last words: lines as vLLM 0.32 printed them."""

import pytest

from tokenfleet import contract
from tokenfleet_engine.launch.symptoms import LONGEST, explain

CORE = "(EngineCore pid=37) ERROR 11-21 07:28:16 [core.py:1510] "
WORKER = "(VllmWorker-0 pid=50) ERROR 11-21 07:30:56 [multiproc_executor.py:953] "
INFO = "(APIServer pid=18) INFO 11-21 07:27:54 [api_utils.py:286] "
FOLLOWS = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}"


@pytest.mark.parametrize(
    ("line", "reason", "message"),
    [
        pytest.param(
            "api_server.py: error: unrecognized arguments: --no-such-flag 3",
            contract.REASON_ENGINE_CONFIG_INVALID,
            "vLLM says: unrecognized arguments: --no-such-flag 3. Change spec.engine or its extraArgs.",
            id="a flag that it does not know",
        ),
        pytest.param(
            "api_server.py: error: argument --dtype: invalid choice: 'nonsense' (choose from 'auto', 'bfloat16')",
            contract.REASON_ENGINE_CONFIG_INVALID,
            "vLLM says: argument --dtype: invalid choice: 'nonsense' (choose from 'auto', 'bfloat16'). Change spec.engine or "
            "its extraArgs.",
            id="a value that it does not know",
        ),
        pytest.param(
            "  Value error, User-specified max_model_len (100000) is greater than the derived max_model_len.",
            contract.REASON_ENGINE_CONFIG_INVALID,
            "vLLM says: User-specified max_model_len (100000) is greater than the derived max_model_len. Change spec.engine or "
            "its extraArgs.",
            id="a context beyond the model's",
        ),
        pytest.param(
            "  Value error, The checkpoint has model type `nobody` but Transformers does not recognize this architecture.",
            contract.REASON_MODEL_INVALID,
            "vLLM says: The checkpoint has model type `nobody` but Transformers does not recognize this architecture. This "
            "vLLM does not know the model: choose another, or a newer engine image.",
            id="an architecture that it does not know",
        ),
        pytest.param(
            f"{WORKER}RuntimeError: NIXL is not available",
            contract.REASON_ENGINE_CONFIG_INVALID,
            "vLLM says: NIXL is not available. Use an engine image that has it (pip: nixl), or remove spec.disaggregation.",
            id="an image that cannot move KV blocks",
        ),
        pytest.param(
            "  Value error, Cannot find the config file for awq [type=value_error, input_value=1, input_type=int]",
            contract.REASON_ENGINE_CONFIG_INVALID,
            "vLLM says: Cannot find the config file for awq. Set quantization to what the weights were quantised with, or "
            "remove it.",
            id="weights that are not quantised",
        ),
        pytest.param(
            f"{WORKER}ValueError: Available memory on node 0 (20.59/23.54 GiB) on startup is less than desired CPU memory.",
            contract.REASON_OUT_OF_MEMORY,
            "vLLM says: Available memory on node 0 (20.59/23.54 GiB) on startup is less than desired CPU memory. Give the pod "
            "more memory (engine.resources), or lower maxModelLen or batching.maxNumSeqs.",
            id="less memory than it wants",
        ),
        pytest.param(
            f"{CORE}torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            contract.REASON_OUT_OF_MEMORY,
            "vLLM says: CUDA out of memory. Tried to allocate 2.00 GiB. Give the pod more memory (engine.resources), or lower "
            "maxModelLen or batching.maxNumSeqs.",
            id="no memory on the GPU",
        ),
        pytest.param(
            f"{CORE}RuntimeError: Insufficient space in /dev/shm for ring buffer: 160 MiB required, 64 MiB free.",
            contract.REASON_ENGINE_CONFIG_INVALID,
            "vLLM says: Insufficient space in /dev/shm for ring buffer: 160 MiB required, 64 MiB free. Enlarge the volume at "
            "/dev/shm.",
            id="no shared memory",
        ),
        pytest.param(
            f"{CORE}AttributeError: '_C' object has no attribute 'init_cpu_memory_env'",
            contract.REASON_ENGINE_START_FAILED,
            "vLLM ended with exit code 1 before it served. AttributeError: '_C' object has no attribute 'init_cpu_memory_env'",
            id="what no row knows is told as it stands",
        ),
    ],
)
def test_the_cause_and_the_remedy(line: str, reason: str, message: str) -> None:
    lines = [f"{INFO}non-default args: {{'max_model_len': 512}}", line, f"{CORE}Traceback (most recent call last):", FOLLOWS]
    failure = explain([f"{each}\n" for each in lines], status=1, served=False, oom_kills=0)
    assert (failure.reason, failure.message) == (reason, message)


WRAPPED = "Worker failed with error '{}', please check the stack trace above for the root cause"
PYDANTIC = "  Value error, {} [type=value_error, input_value=ArgsKwargs((), {{'model': ...}}), input_type=ArgsKwargs]"


@pytest.mark.parametrize(
    ("form", "words", "reason", "remedy"),
    [
        pytest.param(
            PYDANTIC, "Model architecture MPTForCausalLM was supported in vLLM until v0.28.0, and is not supported anymore.",
            contract.REASON_MODEL_INVALID, "choose another, or a newer engine image.", id="an architecture that it has dropped",
        ),
        pytest.param(
            f"{WORKER}ValueError: {{}}", "Following weights were not initialized from checkpoint: {'layers.3.norm.weight'}.",
            contract.REASON_MODEL_INVALID, "copy them all from one.", id="fewer layers than the configuration says",
        ),
        pytest.param(
            f"{WORKER}ValueError: {{}}", "There is no module or parameter named 'model' in LlamaModel.",
            contract.REASON_MODEL_INVALID, "belong to different models: copy them all from one.", id="a whole model as a head",
        ),
        pytest.param(
            f"{CORE}ValueError: {{}}",
            "To serve at least one request with the model's max seq len (2048), (0.0 GiB KV cache is needed, which is larger "
            "than the available KV cache memory (0.0 GiB). Based on the available memory, the estimated maximum model length "
            "is 1152.",
            contract.REASON_OUT_OF_MEMORY, "or lower maxModelLen or batching.maxNumSeqs.", id="no room for one sequence",
        ),
        pytest.param(
            f"{CORE}ValueError: {{}}", "No available memory for the cache blocks.",
            contract.REASON_OUT_OF_MEMORY, "Give the pod more memory (engine.resources)", id="no room for one block",
        ),
        pytest.param(
            PYDANTIC, "Target and draft model should have the same vocabulary size. Target model vocab_size=261.",
            contract.REASON_ENGINE_CONFIG_INVALID, "the model's own family, or method ngram.", id="a draft of another family",
        ),
        pytest.param(
            f"ValueError: Call to add_lora method failed: {WRAPPED}", "LoRA rank 24 is greater than max_lora_rank 16.",
            contract.REASON_ENGINE_CONFIG_INVALID, "Remove --max-lora-rank from extraArgs.", id="an adapter of a higher rank",
        ),
        pytest.param(
            "ValueError: {}", "Loading lora a failed: No adapter found for <path>.",
            contract.REASON_MODEL_NOT_FOUND, "Check the source in spec.model.adapters.", id="an adapter that is not there",
        ),
        pytest.param(
            f"ValueError: Call to add_lora method failed: {WRAPPED}",
            "The size of tensor a (128) must match the size of tensor b (256) at non-singleton dimension 1.",
            contract.REASON_MODEL_INVALID, "Choose an adapter of this model", id="an adapter of another model",
        ),
        pytest.param(
            PYDANTIC,
            "Quantization method specified in the model config (gptq) does not match the quantization method specified in the "
            "`quantization` argument (fp8).",
            contract.REASON_ENGINE_CONFIG_INVALID, "what the weights were quantised with", id="quantised in another way",
        ),
        pytest.param(
            PYDANTIC, "Sleep mode is not supported on current platform.",
            contract.REASON_ENGINE_CONFIG_INVALID, "vLLM can do it on GPUs alone.", id="sleep where there is no GPU",
        ),
        pytest.param(
            f"{CORE}RuntimeError: {WRAPPED}", "No common block size for 7 (CPU_ATTN: [MultipleOf(32)]).",
            contract.REASON_ENGINE_CONFIG_INVALID, "Set kvCache.blockSize to a multiple", id="a block size that it cannot take",
        ),
        pytest.param(
            "KeyError: {}", "'invalid tool call parser: nobody (chose from { hermes,mistral })'.",
            contract.REASON_ENGINE_CONFIG_INVALID, "Change spec.engine or its extraArgs.", id="a parser that it does not know",
        ),
        pytest.param(
            "vllm.exceptions.VLLMValidationError: {}",
            "The supplied chat template string (/t.jinja) appears path-like, but doesn't exist!",
            contract.REASON_ENGINE_CONFIG_INVALID, "Change spec.engine or its extraArgs.", id="no such chat template",
        ),
    ],
)  # fmt: skip
def test_what_it_says_of_itself_is_quoted_without_its_wrapping(form: str, words: str, reason: str, remedy: str) -> None:
    failure = explain([form.format(words), FOLLOWS], status=1, served=False, oom_kills=0)
    assert failure.reason == reason
    assert failure.message.startswith(f"vLLM says: {words} ")
    assert remedy in failure.message


def test_a_list_of_all_architectures_is_left_out() -> None:
    words = (
        "Model architectures ['NobodyForCausalLM'] are not supported for now. Supported architectures: dict_keys(['A', 'B'])"
    )
    failure = explain([PYDANTIC.format(words)], status=1, served=False, oom_kills=0)
    assert failure.message.startswith(
        "vLLM says: Model architectures ['NobodyForCausalLM'] are not supported for now. This vLLM does not know the model"
    )


def test_what_vllm_says_while_all_is_well_is_no_symptom() -> None:
    lines = [f"{INFO}non-default args: {{'max_model_len': 512}}", "KeyError: 'x'"]
    failure = explain(lines, status=1, served=False, oom_kills=0)
    assert failure.reason == contract.REASON_ENGINE_START_FAILED


def test_the_kernels_kill_says_more_than_any_line() -> None:
    failure = explain([FOLLOWS], status=1, served=True, oom_kills=1)
    assert failure.reason == contract.REASON_OUT_OF_MEMORY
    assert "memory limit" in failure.message


def test_a_process_of_vllm_that_is_killed_says_nothing_and_its_neighbours_little() -> None:
    dead = (
        "(APIServer pid=20) ERROR 11-21 07:54:11 [a.py:906] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered"
    )
    failure = explain([dead, FOLLOWS], status=0, served=True, oom_kills=0)
    assert failure.reason == contract.REASON_ENGINE_CRASHED
    assert failure.message.endswith("One of its processes ended without a word: killed, or crashed in native code.")


def test_an_end_without_words_is_told_by_its_signal() -> None:
    failure = explain([], status=-9, served=False, oom_kills=0)
    assert (failure.reason, failure.message) == (
        contract.REASON_ENGINE_START_FAILED,
        "vLLM ended by signal 9 before it served.",
    )


def test_an_end_without_an_error_is_told_by_the_last_lines() -> None:
    failure = explain(["one\n", "two\n", "\n", "three\n"], status=1, served=True, oom_kills=0)
    assert failure.reason == contract.REASON_ENGINE_CRASHED
    assert failure.message.endswith("two ⏎ three")


def test_a_long_line_is_cut_between_words() -> None:
    failure = explain(["x.py: error: argument " + "word " * 500], status=2, served=False, oom_kills=0)
    assert len(failure.message) < LONGEST + 100
    assert "word …" in failure.message
