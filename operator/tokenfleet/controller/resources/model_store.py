"""The files that an engine reads: volumes, mounts and paths, and the init container that fetches what no claim has.

The model's claim stands at /models, as it always has; another claim, of a draft or an adapter, below /claims. All that is
fetched stands below /cache, which the engine cannot write to, each at a path of its own for every source and revision
(`contract.cached_path`), so that pods of several LLMDeployments may share a claim. `fetch` runs in the engine's image, before
the engine, with the credentials that the engine does not get.
"""

from dataclasses import dataclass

from tokenfleet import contract
from tokenfleet.api.model import CLAIM_SCHEME, is_fetched
from tokenfleet.api.v1alpha1 import Adapter, LLMDeploymentSpec
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources import security
from tokenfleet.controller.resources.quantities import MILLI, canonical_quantity

_CACHE = "cache"
_MODEL = "model"
_TMP_MOUNT = {"name": "tmp", "mountPath": "/tmp"}


@dataclass(frozen=True, slots=True)
class _Claim:
    """A claim that is read, and where it stands."""

    name: str
    volume: str
    path: str


def model_path(spec: LLMDeploymentSpec) -> str:
    """Where the model's files stand in an engine pod."""
    return _path(spec, spec.model.source, spec.model.revision)


def draft_path(spec: LLMDeploymentSpec) -> str | None:
    """Where those of the model stand that guesses; None: there is none."""
    speculative = spec.engine.speculative
    if speculative is None or speculative.draft_model is None:
        return None
    return _path(spec, speculative.draft_model, speculative.draft_revision)


def adapter_path(spec: LLMDeploymentSpec, adapter: Adapter) -> str:
    """Where an adapter's files stand."""
    return _path(spec, adapter.source, adapter.revision)


def volumes(spec: LLMDeploymentSpec) -> list[Json]:
    """Of an engine pod: claims that are read, and the cache where something is fetched."""
    claims: list[Json] = [
        {"name": claim.volume, "persistentVolumeClaim": {"claimName": claim.name}} for claim in _claims(spec).values()
    ]
    return [*claims, *([{"name": _CACHE, **_cache(spec)}] if _fetched(spec) else [])]


def mounts(spec: LLMDeploymentSpec) -> list[Json]:
    """Of the engine's container: it reads, and no more."""
    places = [(claim.volume, claim.path) for claim in _claims(spec).values()]
    places += [(_CACHE, contract.CACHE_MOUNT_PATH)] if _fetched(spec) else []
    return [{"name": name, "mountPath": path, "readOnly": True} for name, path in places]


def fetch_containers(spec: LLMDeploymentSpec, *, image: str, pull_policy: str) -> list[Json]:
    """The init container, where something is fetched. One that finds all files in the cache ends at once."""
    fetched = _fetched(spec)
    if not fetched:
        return []
    words = [source if revision is None else f"{source}@{revision}" for source, revision in fetched]
    credentials = spec.model.credentials
    environment = [{"secretRef": {"name": credentials.secret_name}}] if credentials is not None else []
    return [
        {
            "name": contract.CONTAINER_FETCH,
            "image": image,
            "imagePullPolicy": pull_policy,
            "command": ["tokenfleet-engine"],
            "args": ["fetch", "--cache", contract.CACHE_MOUNT_PATH, *words],
            **({"envFrom": environment} if environment else {}),
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi", **_room(spec)}},
            "securityContext": security.container_security(),
            "terminationMessagePath": contract.TERMINATION_LOG_PATH,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [{"name": _CACHE, "mountPath": contract.CACHE_MOUNT_PATH}, _TMP_MOUNT],
        }
    ]


def owns_all_claims(spec: LLMDeploymentSpec) -> bool:
    """Whether the pod has a claim, and none but the cache's: then the kubelet may make its files our group's.

    A fresh volume belongs to root, so `fetch` could not write to it otherwise; and a claim of models that are only read is the
    user's, where we change nothing.
    """
    cache = spec.model.cache.persistent_volume_claim if spec.model.cache is not None else None
    return cache is not None and bool(_fetched(spec)) and _claims(spec).keys() <= {cache}


def _fetched(spec: LLMDeploymentSpec) -> list[tuple[str, str | None]]:
    """Source and revision of all that is fetched, each once."""
    return list(dict.fromkeys(each for each in _sources(spec) if is_fetched(each[0])))


def _sources(spec: LLMDeploymentSpec) -> list[tuple[str, str | None]]:
    """In the order in which they are wanted: without the model, the rest is of no use."""
    speculative = spec.engine.speculative
    found: list[tuple[str, str | None]] = [(spec.model.source, spec.model.revision)]
    if speculative is not None and speculative.draft_model is not None:
        found.append((speculative.draft_model, speculative.draft_revision))
    return [*found, *((adapter.source, adapter.revision) for adapter in spec.model.adapters)]


def _claims(spec: LLMDeploymentSpec) -> dict[str, _Claim]:
    """Those that are read, by name. Volumes are numbered, since a claim's name may be longer than a volume's."""
    found: dict[str, _Claim] = {}
    for source, _ in _sources(spec):
        name = source.removeprefix(CLAIM_SCHEME).partition("/")[0]
        if is_fetched(source) or name in found:
            continue
        if source == spec.model.source:
            found[name] = _Claim(name, _MODEL, contract.MODEL_MOUNT_PATH)
        else:
            found[name] = _Claim(name, f"claim-{len(found)}", f"{contract.CLAIMS_MOUNT_PATH}/{name}")
    return found


def _path(spec: LLMDeploymentSpec, source: str, revision: str | None) -> str:
    if is_fetched(source):
        return contract.cached_path(source, revision)
    claim, _, path = source.removeprefix(CLAIM_SCHEME).partition("/")
    root = _claims(spec)[claim].path
    return f"{root}/{path}" if path else root


def _cache(spec: LLMDeploymentSpec) -> Json:
    """The cache's source: the claim, or the node's disk."""
    cache = spec.model.cache
    if cache is not None and cache.persistent_volume_claim is not None:
        return {"persistentVolumeClaim": {"claimName": cache.persistent_volume_claim}}
    return {"emptyDir": {} if cache is None or cache.size is None else {"sizeLimit": canonical_quantity(cache.size)}}


def _room(spec: LLMDeploymentSpec) -> Json:
    """What the scheduler has to find on a node's disk. A pod asks for as much as its greediest init container does."""
    size = spec.model.cache.size if spec.model.cache is not None else None
    return {} if size is None else {"ephemeral-storage": canonical_quantity(size, finest=MILLI)}
