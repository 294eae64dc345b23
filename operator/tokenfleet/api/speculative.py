"""`spec.engine.speculative`: tokens that are guessed ahead, by a smaller model or from the prompt, and then checked."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tokenfleet.api.model import Revision, Source, source_rules
from tokenfleet.api.rules import Rule, Ruled


class PromptLookup(Ruled):
    """Which n-grams are looked up in what was read and written so far."""

    rules: ClassVar = (
        Rule(
            cel="self.min <= self.max",
            message="min must not be above max: the longest n-gram is tried first, then shorter ones down to min",
            holds=lambda lookup: lookup.min <= lookup.max,
        ),
    )

    min: Annotated[int, Field(ge=1, le=32)] = Field(description="Tokens of the shortest n-gram.")
    max: Annotated[int, Field(ge=1, le=32)] = Field(description="Tokens of the longest n-gram.")


class Speculative(Ruled):
    """Who guesses, and how far ahead."""

    rules: ClassVar = (
        *source_rules("draftModel", "draftRevision"),
        Rule(
            cel="self.method == 'ngram' || has(self.draftModel)",
            message="draftModel must say where the guessing model's files are with the methods draft and eagle3; ngram needs "
            "none",
            holds=lambda speculative: speculative.method == "ngram" or speculative.draft_model is not None,
        ),
        Rule(
            cel="self.method != 'ngram' || (!has(self.draftModel) && !has(self.draftRevision))",
            message="draftModel and draftRevision must be absent with the method ngram, which guesses from the prompt: remove "
            "them, or set method to draft or eagle3",
            holds=lambda speculative: (
                speculative.method != "ngram" or (speculative.draft_model is None and speculative.draft_revision is None)
            ),
        ),
        Rule(
            cel="!has(self.promptLookup) || self.method == 'ngram'",
            message="promptLookup must be absent with the methods draft and eagle3: only ngram looks into the prompt",
            holds=lambda speculative: speculative.prompt_lookup is None or speculative.method == "ngram",
        ),
    )

    method: Literal["draft", "ngram", "eagle3"] = Field(
        description="Who guesses. draft: a small model with the same vocabulary. eagle3: a head that was trained for this very "
        "model. ngram: what followed the same words before, in the prompt or the answer; needs no files, and pays where "
        "answers repeat what was asked."
    )
    draft_model: Source | None = Field(
        default=None,
        description="Files of the small model or of the head, as model.source; fetched with the same credentials into the same "
        "cache.",
        examples=["hf://org/llama-3-1b"],
    )
    draft_revision: Revision | None = Field(default=None, description="As model.revision.")
    num_tokens: Annotated[int, Field(ge=1, le=16)] = Field(
        default=5, description="Tokens that are guessed for one step. More pay only while most are right."
    )
    prompt_lookup: PromptLookup | None = Field(
        default=None, description="Which n-grams `ngram` looks up. Default: vLLM's, which are of 5 tokens."
    )
