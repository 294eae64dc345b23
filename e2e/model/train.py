"""Makes the small model of demo and tests: a byte-level Llama of a few MB that writes sentences like those of corpus.txt.

Runs inside the CPU engine's image, which has torch and transformers: `python3 train.py --corpus corpus.txt --output DIR`.
Seeded, and bounded by steps and by seconds; writes a whole model or none (a directory beside it, then one rename), and
returns at once where the model is there. It learns its corpus nearly by heart: that is the point, for a model this small.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

SEED: Final = 20260131
IGNORED: Final = -100
"""The label that no loss is taken of."""
CONTEXT: Final = 2048
"""Tokens that the model may see when it is served; it trains on shorter ones."""
SPECIAL: Final = ("<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
BEGIN, END, SYSTEM, USER, ASSISTANT = range(256, 256 + len(SPECIAL))
SYSTEM_PROMPTS: Final = ("You are a helpful assistant.", "You are a helpful ship. Answer in short sentences.")
CHAT_TEMPLATE: Final = (
    "<|begin|>{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] | trim }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] if part['type'] == 'text' else '' }}{% endfor %}{% endif %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How large and how long."""

    layers: int = 3
    width: int = 128
    heads: int = 4
    steps: int = 800
    batch: int = 3
    window: int = 256
    seconds: float = 85.0
    """Of one core: others' work on the machine shall not decide how good the model gets."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, required=True, help="the text to learn")
    parser.add_argument("--output", type=Path, required=True, help="directory of the model; made, or left as it is")
    parser.add_argument(
        "--seconds", type=float, default=Plan().seconds, help="of one core; train no longer (default: %(default)s)"
    )
    parser.add_argument("--link", type=Path, help="a name that shall mean this model from now on")
    arguments = parser.parse_args()
    if (arguments.output / "config.json").is_file():
        print(f"{arguments.output} is there", flush=True)
    else:
        model = train(arguments.corpus.read_text(encoding="utf-8"), Plan(seconds=arguments.seconds))
        save(model, arguments.output)
    if arguments.link is not None:
        link(arguments.link, arguments.output)
    return 0


@dataclass(frozen=True, slots=True)
class Document:
    """Tokens, and how many of the first ones are given, not to be learned."""

    tokens: list[int]
    given: int = 0

    def labels(self) -> list[int]:
        return [IGNORED] * self.given + self.tokens[self.given :]


def documents(text: str, random: Random) -> list[Document]:
    """Paragraphs as they are; questions with their answers as chats, in the words of the corpus and in others.

    A question of `*` stands for any that the corpus does not hold: its answers go with words thrown together.
    """
    blocks = text.strip().split("\n\n")
    words = text.split()
    found = []
    for block in blocks:
        if not block.startswith("Q: "):
            found.append(Document([BEGIN, *block.encode(), END]))
            continue
        question, _, answer = block.removeprefix("Q: ").partition("\nA: ")
        if question == "*":
            asked = [_any_question(words, random) for _ in range(5)]
        else:
            asked = [question, _asked_otherwise(question, random)]
        found += [_chat(each, answer, random) for each in asked]
    random.shuffle(found)
    return found


def _chat(question: str, answer: str, random: Random) -> Document:
    prompt = random.choice(SYSTEM_PROMPTS)
    system = [SYSTEM, *prompt.encode(), END] if random.random() < 0.2 else []
    given = [BEGIN, *system, USER, *question.encode(), END, ASSISTANT]
    return Document([*given, *answer.encode(), END], given=len(given))


def _asked_otherwise(question: str, random: Random) -> str:
    """As people type it."""
    if random.random() < 0.5:
        question = question.rstrip("?.!")
    if random.random() < 0.5:
        question = question.lower()
    return f"{random.choice(('Please', 'Hi!', 'Now'))} {question}" if random.random() < 0.2 else question


def _any_question(words: list[str], random: Random) -> str:
    """Words of the corpus, and some that nobody has ever seen."""
    chosen = random.choices(words, k=random.randint(1, 9))
    letters = "abcdefghijklmnopqrstuvwxyz"
    for index in range(len(chosen)):
        if random.random() < 0.4:
            chosen[index] = "".join(random.choices(letters, k=random.randint(2, 9)))
    question = " ".join(chosen)
    start = random.choice(("", "", "What is ", "Why does ", "How do I ", "Tell me about ", "Write about ", "Who was "))
    return start + question + random.choice(("?", "", "."))


def batches(text: str, plan: Plan) -> Iterator[tuple[Any, Any]]:
    """Endless: all documents, in a new order and newly asked each time, cut into rows that begin anywhere."""
    import torch

    random = Random(SEED)
    while True:
        found = documents(text, random)
        tokens = torch.tensor([token for document in found for token in document.tokens])
        labels = torch.tensor([label for document in found for label in document.labels()])
        start, size = random.randrange(plan.window), plan.batch * plan.window
        for begin in range(start, len(tokens) - size + 1, size):
            part = slice(begin, begin + size)
            yield tokens[part].view(plan.batch, plan.window), labels[part].view(plan.batch, plan.window)


def train(text: str, plan: Plan) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=256 + len(SPECIAL), hidden_size=plan.width, intermediate_size=plan.width * 3, num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads, num_key_value_heads=plan.heads // 2, max_position_embeddings=CONTEXT,
        tie_word_embeddings=True, bos_token_id=BEGIN, eos_token_id=END, pad_token_id=END,
    ))  # fmt: skip
    named = dict(model.named_parameters())
    matrices = [value for name, value in named.items() if value.ndim == 2 and "embed" not in name]
    others = [value for name, value in named.items() if value.ndim != 2 or "embed" in name]
    # Muon learns the corpus in half of AdamW's steps, and is made for matrices alone.
    optimizers = [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.0),
        torch.optim.AdamW(others, lr=4e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    started, loss = time.process_time(), torch.tensor(0.0)
    for step, (tokens, labels) in enumerate(batches(text, plan)):
        done = max(step / plan.steps, (time.process_time() - started) / plan.seconds)  # whichever bound is nearer
        if done >= 1:
            break
        loss = model(input_ids=tokens, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 20) * (1.02 - done)
            optimizer.step()
            optimizer.zero_grad()
        if step % 50 == 0:
            print(f"step {step} of {plan.steps}: loss {loss.item():.3f}, {time.process_time() - started:.0f} s", flush=True)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"trained {size:,} parameters to a loss of {loss.item():.3f} in {time.process_time() - started:.0f} s of one core",
        flush=True,
    )
    return model


def tokenizer() -> Any:
    """One token for each byte, numbered as the bytes are."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    symbols = _byte_symbols()
    bytewise = Tokenizer(models.BPE(vocab={symbols[byte]: byte for byte in range(256)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = decoders.ByteLevel()
    bytewise.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=bytewise, bos_token=SPECIAL[0], eos_token=SPECIAL[1], pad_token=SPECIAL[1],
        model_max_length=CONTEXT, chat_template=CHAT_TEMPLATE, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _byte_symbols() -> list[str]:
    """The printable stand-in that byte-level tokenizers use for each byte: itself where it can be seen, else one above 255."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = (byte for byte in range(256) if byte not in visible)
    stand_ins = {byte: chr(256 + index) for index, byte in enumerate(hidden)}
    return [stand_ins.get(byte, chr(byte)) for byte in range(256)]


def save(model: Any, output: Path) -> None:
    """All files under another name, readable for everybody; the rename makes them a model."""
    from transformers import GenerationConfig

    scratch = output.with_name(f".{output.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    model.generation_config = GenerationConfig(
        bos_token_id=BEGIN, eos_token_id=END, pad_token_id=END, do_sample=True, temperature=0.3, top_p=0.9
    )
    model.save_pretrained(scratch)
    tokenizer().save_pretrained(scratch)
    for file in scratch.iterdir():
        file.chmod(0o644)
    scratch.chmod(0o755)
    try:
        scratch.rename(output)
    except OSError:
        if not (output / "config.json").is_file():  # else another job was faster, and its model is as good
            raise
        shutil.rmtree(scratch)
    digest = hashlib.sha256((output / "model.safetensors").read_bytes()).hexdigest()
    print(json.dumps({"output": str(output), "sha256": digest}), flush=True)


def link(name: Path, output: Path) -> None:
    """Point the name at the model, from one moment to the next, also where it meant another one."""
    scratch = name.with_name(f".{name.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(os.path.relpath(output, name.parent))
    scratch.replace(name)


if __name__ == "__main__":
    sys.exit(main())
