"""The journal: whatever a kill leaves of it, no byte counts as arrived that did not."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tokenfleet_engine.store.listing import RemoteFile
from tokenfleet_engine.store.parts import Parts, arrived_bytes

SIZE = 50
FILES = [RemoteFile("a/b.safetensors", SIZE, "x"), RemoteFile("c.json", SIZE, "y")]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("note"), st.integers(0, 1), st.integers(0, SIZE), st.integers(0, SIZE)),
        st.tuples(st.sampled_from(["commit", "seal", "restart"]), st.integers(0, 1), st.just(0), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, torn=st.integers(0, 40))
def test_a_torn_journal_knows_a_part_of_what_arrived(steps: list[tuple[str, int, int, int]], torn: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        _tear(Path(directory), steps, torn)


def _tear(folder: Path, steps: list[tuple[str, int, int, int]], torn: int) -> None:
    parts, states = Parts(folder, FILES), [{file.path: set[int]() for file in FILES}]
    for step, which, start, end in steps:
        file = FILES[which]
        match step:
            case "note":
                parts.note(file, start, end)
            case "commit":
                parts.commit(parts.pending())
            case "seal":
                parts.note(file, 0, SIZE)
                parts.seal(file, "sha256")
            case "restart":
                parts.restart(file)
        states.append(bytes_of(parts))
    journal = folder / "journal"
    content = journal.read_bytes() if journal.exists() else b""
    journal.write_bytes(content[: len(content) - torn] if torn else content)
    whole = arrived_bytes(folder)
    again = Parts(folder, FILES)
    for path, there in bytes_of(again).items():
        assert any(there <= state[path] for state in states), "it never was like this"
    if not torn:
        assert whole <= again.done()
        final = states[-1]
        assert all(there <= final[path] for path, there in bytes_of(again).items())
    again.note(FILES[0], 0, 1)  # what follows a torn line is not lost with it
    again.commit(again.pending())
    assert 0 in bytes_of(Parts(folder, FILES))[FILES[0].path]


def bytes_of(parts: Parts) -> dict[str, set[int]]:
    return {path: {byte for start, end in ranges for byte in range(start, end)} for path, ranges in parts.arrived.items()}


def test_a_file_that_lost_its_length_begins_anew(tmp_path: Path) -> None:
    parts = Parts(tmp_path, FILES)
    parts.note(FILES[1], 0, SIZE)
    parts.commit(parts.pending())
    parts.path(FILES[1]).write_bytes(b"short")
    again = Parts(tmp_path, FILES)
    assert again.done() == 0
    assert again.path(FILES[1]).stat().st_size == SIZE
    assert Parts(tmp_path, FILES).done() == 0, "the file has its length again, and still none of its bytes"


def test_a_shared_file_is_not_written_to(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_bytes(b"x" * SIZE)
    parts = Parts(tmp_path / "parts", FILES)
    assert parts.adopt(FILES[1], old, verified=None)
    assert parts.arrived["c.json"].total() == SIZE
    parts.restart(FILES[1])
    parts.path(FILES[1]).write_bytes(b"y" * SIZE)
    assert old.read_bytes() == b"x" * SIZE
