"""Files of prompts: what is made of each kind, the same sample for the same seed, and one sentence for what cannot be read."""

import gzip
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as any_of

from tokenfleet.bench.datasets import BadDataset, open_dataset
from tokenfleet.bench.datasets.records import read_records
from tokenfleet.bench.datasets.traces import BLOCK
from tokenfleet.bench.prompts import Numbers, Prompt
from tokenfleet.bench.wording import Words

TALK = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "Who?"},
    {"from": "gpt", "value": "x" * 40},
    {"from": "human", "value": "Why?"},
    {"from": "gpt", "value": "y" * 80},
    {"from": "human", "value": "When?"},
]


def written(path: Path, *records: Any, lines: bool = True) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records) if lines else json.dumps(list(records), indent=2)
    path.write_text(text)
    return path


def talk(number: int) -> dict[str, Any]:
    return {"id": str(number), "conversations": [{"from": "human", "value": f"q{number}"}, {"from": "gpt", "value": "answer"}]}


def test_the_first_turn_of_a_conversation_asks_for_as_much_as_was_answered(tmp_path: Path) -> None:
    path = written(tmp_path / "talks.json", {"conversations": TALK[1:]}, talk(2), lines=False)
    data = open_dataset(path)
    assert (data.kind, data.records, data.skipped, data.times) == ("conversations", 2, 0, None)
    assert list(data) == [Prompt(text="Who?", output_tokens=10), Prompt(text="q2", output_tokens=2)]


def test_more_turns_and_a_system_prompt(tmp_path: Path) -> None:
    (prompt,) = open_dataset(written(tmp_path / "talks.json", {"conversations": TALK}, lines=False), turns=2)
    assert prompt.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"})
    assert (prompt.turns, prompt.output_tokens, prompt.conversation) == (("Why?",), 10, 2)
    following = prompt.after("I.")
    assert following is not None
    assert [message["content"] for message in following.messages or ()] == ["Be brief.", "Who?", "I.", "Why?"]


def test_the_lengths_of_answers_may_be_counted_or_said(tmp_path: Path) -> None:
    path = written(tmp_path / "talks.json", {"conversations": TALK}, lines=False)
    assert [prompt.output_tokens for prompt in open_dataset(path, tokens_of=len)] == [40]
    assert [prompt.output_tokens for prompt in open_dataset(path, output_tokens=7)] == [7]


def test_prompts_one_a_line(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Hi"}]
    path = written(
        tmp_path / "p.jsonl", {"prompt": "A", "output_tokens": 5}, {"messages": said}, {"prompt": [7, 8], "max_tokens": 1}
    )
    assert list(open_dataset(path)) == [
        Prompt(text="A", output_tokens=5),
        Prompt(messages=tuple(said)),
        Prompt(token_ids=(7, 8), output_tokens=1, input_tokens=2),
    ]


def test_a_sample_is_the_same_for_the_same_seed_and_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "talks.json", *map(talk, range(500)), lines=False)

    def drawn(seed: int) -> list[int]:
        return [int(str(prompt.text)[1:]) for prompt in open_dataset(path, seed=seed, count=20)]

    assert drawn(1) == drawn(1) == sorted(drawn(1))
    assert drawn(1) != drawn(2)
    assert len(drawn(1)) == len(set(drawn(1))) == 20


def test_every_record_has_the_same_chance_to_be_drawn(tmp_path: Path) -> None:
    path = written(tmp_path / "p.jsonl", *({"prompt": str(number)} for number in range(20)))
    counts = [0] * 20
    for seed in range(400):
        for prompt in open_dataset(path, seed=seed, count=5):
            counts[int(prompt.text or "")] += 1
    assert all(60 < count < 140 for count in counts)  # 100 each, with a deviation of 9


def test_a_trace_says_when(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 10.0, "input_tokens": 30, "output_tokens": 4},
        {"timestamp": 11.5, "input_tokens": 3, "output_tokens": 9},
    ]
    data = open_dataset(written(tmp_path / "t.jsonl", *rows))
    assert (data.kind, data.times, len(data)) == ("trace", (0.0, 1.5), 2)
    first, second = data
    assert (len(first.token_ids or ()), first.output_tokens) == (30, 4)
    assert (len(second.token_ids or ()), second.output_tokens) == (3, 9)
    assert list(data) == [first, second]


def test_blocks_of_a_trace_are_shared(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 0, "input_length": 2 * BLOCK + 10, "output_length": 5, "hash_ids": [1, 2, 3]},
        {"timestamp": 1500, "input_length": 2 * BLOCK + 20, "output_length": 5, "hash_ids": [1, 2, 4]},
        {"timestamp": 3000, "input_length": BLOCK, "output_length": 5, "hash_ids": [9]},
    ]
    data = open_dataset(written(tmp_path / "mooncake.jsonl", *rows))
    assert data.times == (0.0, 1.5, 3.0)
    first, second, third = (prompt.token_ids or () for prompt in data)
    assert [len(first), len(second), len(third)] == [2 * BLOCK + 10, 2 * BLOCK + 20, BLOCK]
    assert first[: 2 * BLOCK] == second[: 2 * BLOCK]
    assert first[2 * BLOCK :] != second[2 * BLOCK : 2 * BLOCK + 10]
    assert third[:10] != first[:10]


def test_a_trace_in_words(tmp_path: Path) -> None:
    row = {"timestamp": 0, "input_length": BLOCK + 88, "output_length": 5, "hash_ids": [1, 2]}
    (prompt,) = open_dataset(written(tmp_path / "t.jsonl", row), wording=Words(1.0, 0.0, "one word a token"))
    assert len(str(prompt.text).split()) == BLOCK + 88
    assert prompt.input_tokens == BLOCK + 88


def test_azure_s_table(tmp_path: Path) -> None:
    path = tmp_path / "azure.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n"
    )
    data = open_dataset(path)
    assert data.times == pytest.approx((0.0, 0.052))
    assert [(len(prompt.token_ids or ()), prompt.output_tokens) for prompt in data] == [(4808, 10), (3180, 8)]


def test_a_trace_is_cut_and_not_sampled(tmp_path: Path) -> None:
    rows = ({"timestamp": number, "input_tokens": 1, "output_tokens": 1} for number in range(50))
    assert open_dataset(written(tmp_path / "t.jsonl", *rows), count=3).times == (0.0, 1.0, 2.0)


def test_a_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"prompt": "A"}\n'))
    assert [prompt.text for prompt in open_dataset(path)] == ["A"]


ANYTHING = any_of.text() | any_of.integers() | any_of.none()


@given(any_of.lists(any_of.dictionaries(any_of.text(), ANYTHING, max_size=4), max_size=20), any_of.integers(0, 4))
def test_an_array_is_read_as_json_reads_it(tmp_path_factory: pytest.TempPathFactory, records: list[Any], indent: int) -> None:
    path = tmp_path_factory.mktemp("array") / "any.json"
    path.write_text(json.dumps(records, indent=indent or None))
    if records:
        read = list(read_records(path))
        assert [record.fields for record in read] == records
        lines = path.read_text().splitlines()
        assert all(lines[record.line - 1].lstrip().startswith(("{", "[{")) for record in read)
    else:
        with pytest.raises(BadDataset, match="it is empty"):
            list(read_records(path))


def test_a_long_array_is_not_held(tmp_path: Path) -> None:
    """Records of three hundred thousand characters: several pieces each, with line breaks between all of them."""
    records = [{"prompt": str(number) * 300_000} for number in range(12)]
    path = written(tmp_path / "long.json", *records, lines=False)
    assert [record.fields for record in read_records(path)] == records


TRACE = '{"timestamp": %s, "input_tokens": 1, "output_tokens": 1}\n'


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        pytest.param("x.json", "", " has no records: it is empty.", id="empty"),
        pytest.param("x.json", "[]", " has no records: it is empty.", id="an empty array"),
        pytest.param("x.json", "<html>", "line 1: begins with '<': it is neither a JSON array,", id="an error page"),
        pytest.param(
            "x.json",
            '[\n{"prompt": "a"},\n{"prompt": "bb',
            "line 3: it ends in the middle of a record: is the download",
            id="half",
        ),
        pytest.param("x.json", '[\n{"prompt": "a"}\n', "line 3: it ends in the middle", id="an array without its end"),
        pytest.param(
            "x.json", '[{"prompt": "a"},\n{"prompt" "b"},\n{"prompt": "c"}]', "line 2: no JSON (Expecting ':'", id="broken"
        ),
        pytest.param("x.json", '[{"prompt": "a"} {"prompt": "b"}]', "line 1: '{' where a comma or the end", id="no comma"),
        pytest.param("x.json", '["a"]', "line 1: a record must be an object, not str.", id="an array of texts"),
        pytest.param(
            "x.jsonl", '{"prompt": "a"}\n{"prompt": "b', "line 2: it ends in the middle of a record", id="half a line"
        ),
        pytest.param("x.jsonl", '{"prompt": "a"}\n{prompt}\n', "line 2: no JSON (Expecting property name", id="a broken line"),
        pytest.param(
            "x.jsonl", '{"text": "a"}\n', "line 1: a record has 'text'; it needs 'conversations'", id="something else"
        ),
        pytest.param(
            "x.jsonl", '{"prompt": 5}\n', "line 1: 'prompt' must be a text or a list of token numbers, not int.", id="5"
        ),
        pytest.param("x.jsonl", '{"prompt": "a"}\n{"text": "b"}\n', "line 2: 'prompt' must be a text", id="another kind later"),
        pytest.param(
            "x.jsonl",
            '{"prompt": "a", "output_tokens": -4}\n',
            "line 1: 'output_tokens' must be a whole number from 1",
            id="-4",
        ),
        pytest.param("x.jsonl", '{"conversations": "a"}\n', "line 1: 'conversations' must be a list, not str.", id="no list"),
        pytest.param(
            "x.jsonl", '{"conversations": [{"who": "me"}]}\n', "line 1: each part of a conversation is {'from'", id="no speaker"
        ),
        pytest.param(
            "x.jsonl", '{"conversations": []}\n', "none of its 1 records has anything that a user asks.", id="silence"
        ),
        pytest.param("x.jsonl", TRACE % 5 + TRACE % 4, "line 2: time goes back by 1 s: sort the records by time.", id="back"),
        pytest.param("x.jsonl", TRACE % '"soon"', "line 1: the time must be seconds or RFC 3339 (given: 'soon').", id="soon"),
        pytest.param(
            "x.jsonl", (TRACE % 5).replace("1,", "0,"), "line 1: 'input_tokens' must be a whole number from 1", id="0 in"
        ),
        pytest.param("x.csv", "time,input_tokens,output_tokens\n1,2\n", "line 2: it has not as many columns", id="half a row"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, text: str, expected: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(BadDataset) as refused:
        list(open_dataset(path))
    message = str(refused.value)
    assert message.startswith(str(path))
    assert expected in message
    assert "\n" not in message


def test_half_a_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl.gz"
    whole = gzip.compress("".join(f'{{"prompt": "{Random(number).random()}"}}\n' for number in range(5000)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadDataset, match=r"the compressed file breaks off after line \d+: is the download complete\?"):
        open_dataset(path)


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="cannot be read: "):
        open_dataset(tmp_path / "none.json")
    (tmp_path / "x.jsonl").write_bytes(b'{"prompt": "\xff\xfe"}\n')
    with pytest.raises(BadDataset, match="is no UTF-8"):
        open_dataset(tmp_path / "x.jsonl")


def test_the_default_wording_is_exact(tmp_path: Path) -> None:
    row = {"timestamp": 0, "input_tokens": 17, "output_tokens": 1}
    assert list(open_dataset(written(tmp_path / "t.jsonl", row), wording=Numbers())) == list(open_dataset(tmp_path / "t.jsonl"))
