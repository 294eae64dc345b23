"""The small model's objects and its training data: all of it that needs neither a cluster nor torch."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from e2e.model import model, objects, train

TEXT = "A ship sails.\n\nQ: Who are you?\nA: A ship.\n\nQ: *\nA: I do not know."


def _text(tokens: list[int]) -> str:
    return "".join(chr(token) if token < 256 else train.SPECIAL[token - 256] for token in tokens)


def test_the_job_trains_this_recipe_in_that_image_into_that_claim() -> None:
    job = objects.build_job(objects.MODEL, claim="mine", claim_uid="u1", image="registry/engine:1")
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["image"] == "registry/engine:1"
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "mine"}
    assert f"/models/.made/{objects.MODEL.key()}" in container["args"]
    assert f"/models/{objects.MODEL.name}" in container["args"]
    assert job["metadata"]["annotations"] == {objects.ANNOTATION_KEY: f"{objects.MODEL.key()}/u1"}


def test_the_job_is_allowed_under_pod_security_restricted() -> None:
    pod = objects.build_job(objects.MODEL, claim="c", claim_uid="u", image="i")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    security = pod["containers"][0]["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"] is True
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]


def test_a_local_volume_is_kept_for_its_claim() -> None:
    volume = objects.build_volume("space", claim="models", directory=Path("/cache/models"))
    assert volume["spec"]["claimRef"] == {"namespace": "space", "name": "models"}
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    claim = objects.build_claim(claim="models", volume=volume["metadata"]["name"])
    assert (claim["spec"]["volumeName"], claim["spec"]["storageClassName"]) == (volume["metadata"]["name"], "")


def test_elsewhere_the_clusters_default_storage_is_taken() -> None:
    spec = objects.build_claim(claim="models", volume=None)["spec"]
    assert "storageClassName" not in spec
    assert "volumeName" not in spec


def test_the_sources_fit_into_a_config_map() -> None:
    data = objects.build_sources(objects.MODEL)["data"]
    assert set(data) == {"train.py", "corpus.txt"}
    assert sum(len(text.encode()) for text in data.values()) < 900_000


def test_paragraphs_are_learned_and_questions_are_given() -> None:
    documents = {_text(document.tokens): document for document in train.documents(TEXT, Random(1))}
    paragraph = documents["<|begin|>A ship sails.<|end|>"]
    assert paragraph.given == 0
    asked = "<|user|>Who are you?<|end|><|assistant|>A ship.<|end|>"
    chat = next(document for text, document in documents.items() if text.endswith(asked))
    learned = [label for label in chat.labels() if label != train.IGNORED]
    assert _text(learned) == "A ship.<|end|>"
    assert len(chat.labels()) == len(chat.tokens)


def test_questions_that_nobody_foresaw_get_an_answer_too() -> None:
    answered = [_text(document.tokens) for document in train.documents(TEXT, Random(1))]
    unknown = [text for text in answered if text.endswith("<|assistant|>I do not know.<|end|>")]
    assert len(set(unknown)) > 1


def test_the_same_seed_asks_the_same_questions() -> None:
    first, again, other = (train.documents(TEXT, Random(seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_every_byte_has_a_symbol_of_its_own() -> None:
    symbols = train._byte_symbols()
    assert len(set(symbols)) == 256
    assert (symbols[ord("A")], symbols[ord(" ")], symbols[0]) == ("A", "Ġ", "Ā")
    assert all(symbol.isprintable() and not symbol.isspace() for symbol in symbols)


def test_the_link_moves_from_one_model_to_the_next(tmp_path: Path) -> None:
    name = tmp_path / "model"
    for key in ("one", "two", "two"):
        (tmp_path / ".made" / key).mkdir(parents=True, exist_ok=True)
        train.link(name, tmp_path / ".made" / key)
        assert name.readlink() == Path(".made") / key
    assert sorted(path.name for path in tmp_path.iterdir()) == [".made", "model"]


def test_what_is_there_is_not_trained_again(tmp_path: Path) -> None:
    made = tmp_path / ".made" / "key"
    made.mkdir(parents=True)
    (made / "config.json").write_text("{}")
    command = [sys.executable, train.__file__, "--corpus", "none", "--output", str(made), "--link", str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{made} is there\n")
    assert (tmp_path / "model" / "config.json").exists()


@pytest.mark.parametrize(
    ("link", "there"),
    [
        pytest.param(objects.MODEL.key(), True, id="this recipe's model"),
        pytest.param("another", False, id="the model of another recipe"),
        pytest.param(None, False, id="none"),
    ],
)
def test_the_cache_is_asked_before_the_cluster(tmp_path: Path, link: str | None, there: bool) -> None:
    if link is not None:
        (tmp_path / ".made" / link).mkdir(parents=True)
        (tmp_path / ".made" / link / "config.json").touch()
        (tmp_path / objects.MODEL.name).symlink_to(f".made/{link}")
    assert model._made_here(tmp_path, objects.MODEL) is there
