"""`spec.model`: which model, where its files come from, and the adapters that are loaded beside it.

A source is a URL, and so is that of an adapter, or of a draft (engine.py): a claim of the namespace, which pods mount, or a
store that pods fetch from. No source and no revision holds an '@': it parts the two on the command line.
"""

from typing import Annotated, ClassVar

from pydantic import Field

from tokenfleet.api.rules import Rule, Ruled, distinct, matches
from tokenfleet.api.scalars import ClaimName, ModelName, SecretName, Size

CLAIM_SCHEME = "pvc://"
HUB_SCHEME = "hf://"
_SEGMENT = "[A-Za-z0-9._-]+"
_REPOSITORY = "[A-Za-z0-9][A-Za-z0-9._-]*"
_KEY = "[A-Za-z0-9._=+-]+"
_SOURCE = (
    f"^(pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/{_SEGMENT})*|hf://{_REPOSITORY}/{_REPOSITORY}|"
    f"s3://[a-z0-9][a-z0-9.-]*[a-z0-9](/{_KEY})*|gs://[a-z0-9][a-z0-9._-]*[a-z0-9](/{_KEY})*)$"
)
_COMMIT = "^[A-Za-z0-9][A-Za-z0-9._/-]*$"
_DIGEST = "^sha256:[0-9a-f]{64}$"

Source = Annotated[str, Field(max_length=1024)]
Revision = Annotated[str, Field(min_length=1, max_length=128)]


def is_fetched(source: str) -> bool:
    """Whether pods fetch it, rather than mount it."""
    return not source.startswith(CLAIM_SCHEME)


def source_rules(source: str = "source", revision: str = "revision") -> tuple[Rule, ...]:
    """What the two fields of these names must be; either may be absent."""

    def of(model: Ruled) -> tuple[str | None, str | None]:
        by_name = {field.alias: getattr(model, name) for name, field in type(model).model_fields.items()}
        return by_name[source], by_name[revision]

    def pins(model: Ruled) -> bool:
        where, what = of(model)
        if where is None or what is None:
            return True
        return is_fetched(where) and matches(_COMMIT if where.startswith(HUB_SCHEME) else _DIGEST, what)

    here, pin = f"self.{source}", f"self.{revision}"
    absent = f"!has({here}) || "
    return (
        Rule(
            cel=f"{absent}{here}.matches('{_SOURCE}')",
            message=f"{source} must be hf://ORG/NAME (a model of the Hugging Face hub), s3://BUCKET/PREFIX or "
            "gs://BUCKET/PREFIX (a folder in a bucket), or pvc://CLAIM/PATH (a PersistentVolumeClaim of this namespace and the "
            "model's folder in it)",
            holds=lambda model: (where := of(model)[0]) is None or matches(_SOURCE, where),
        ),
        Rule(
            cel=f"{absent}!({here} + '/').contains('/../') && !({here} + '/').contains('/./')",
            message=f"{source} must not contain '.' or '..' segments; write the path from the root of the claim or bucket",
            holds=lambda model: (where := of(model)[0]) is None or not {".", ".."} & set(where.split("/")),
        ),
        Rule(
            cel=f"!has({here}) || !has({pin}) || ({here}.startsWith('{HUB_SCHEME}') ? {pin}.matches('{_COMMIT}') : "
            f"!{here}.startsWith('{CLAIM_SCHEME}') && {pin}.matches('{_DIGEST}'))",
            message=f"{revision} must be a commit, branch or tag with hf://, sha256: and the 64 digits that a download prints "
            "with s3:// or gs://, and absent with pvc://, whose files nobody pins",
            holds=pins,
        ),
    )


class Credentials(Ruled):
    """What a private model is fetched with."""

    secret_name: SecretName = Field(
        description="Secret of this namespace whose entries become the environment of the container that fetches: HF_TOKEN; "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL for another S3 than Amazon's; or "
        "GOOGLE_CREDENTIALS, a service account's JSON. The engine itself does not see them."
    )


class Cache(Ruled):
    """Where fetched files are kept."""

    rules: ClassVar = (
        Rule(
            cel="has(self.size) != has(self.persistentVolumeClaim)",
            message="cache must have either size, for a copy in each pod, or persistentVolumeClaim, for one that pods share",
            holds=lambda cache: (cache.size is None) != (cache.persistent_volume_claim is None),
        ),
    )

    size: Size | None = Field(
        default=None,
        description="On the node's disk, for as long as the pod lives: room for the files, such as 40Gi. The scheduler looks "
        "for a node that has it, and a pod that takes more is evicted.",
    )
    persistent_volume_claim: ClaimName | None = Field(
        default=None,
        description="In this PersistentVolumeClaim of the namespace: the files are fetched once, and outlive the pods. Pods on "
        "several nodes need one that is ReadWriteMany.",
    )


class Adapter(Ruled):
    """A LoRA adapter."""

    rules: ClassVar = source_rules()

    name: ModelName = Field(description="The name that requests give as `model`.")
    source: Source = Field(
        description="The folder with adapter_config.json and the adapter's safetensors, as spec.model.source has it.",
        examples=["hf://org/llama-3-sql-lora"],
    )
    revision: Revision | None = Field(default=None, description="As spec.model.revision.")


class Model(Ruled):
    """Which model, and where its files are."""

    rules: ClassVar = (
        *source_rules(),
        Rule(
            cel="self.adapters.all(one, self.adapters.exists_one(other, other.name == one.name))",
            message="adapters must not have a name twice: rename one of the two",
            holds=lambda model: distinct(adapter.name for adapter in model.adapters),
        ),
        Rule(
            cel="!has(self.servedName) || !self.adapters.exists(one, one.name == self.servedName)",
            message="adapters must not have the servedName, which is the model without an adapter: rename the adapter",
            holds=lambda model: model.served_name not in {adapter.name for adapter in model.adapters},
        ),
    )

    source: Source = Field(
        description="Where the model's files are, config.json and the safetensors: hf://ORG/NAME, s3://BUCKET/PREFIX and "
        "gs://BUCKET/PREFIX are fetched before the engine starts, pvc://CLAIM/PATH is mounted.",
        examples=["hf://meta-llama/Llama-3.1-8B-Instruct"],
    )
    revision: Revision | None = Field(
        default=None,
        description="Which one: for hf:// a commit, branch or tag; for s3:// and gs:// the sha256: that a download prints, and "
        "another is refused. Default: what is there when a pod fetches, so that two pods may differ.",
    )
    served_name: ModelName | None = Field(
        default=None, description="The name that requests give as `model`. Default: the LLMDeployment's name."
    )
    credentials: Credentials | None = Field(
        default=None, description="What a private model, draft or adapter is fetched with. Absent: as anybody."
    )
    cache: Cache | None = Field(
        default=None, description="Where fetched files are kept. Absent: on the node's disk, for as long as the pod lives."
    )
    adapters: Annotated[list[Adapter], Field(max_length=32)] = Field(
        default=[],
        description="LoRA adapters of this model. Each is loaded before a pod is ready, and is served under its own name.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )

    @property
    def sources(self) -> tuple[str, ...]:
        """Of the model and of its adapters."""
        return (self.source, *(adapter.source for adapter in self.adapters))
