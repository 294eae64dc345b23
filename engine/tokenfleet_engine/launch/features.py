"""What an engine does beside plain serving: speculative decoding, adapters, sleep. Their flags, their weights, their words.

One object goes from the command line's reading to vLLM's command line, so that `command` need not know each of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch.adapters import Adapters, inspect_adapters
from tokenfleet_engine.launch.model_files import Model
from tokenfleet_engine.launch.speculation import Speculation, plan_speculation, read_request
from tokenfleet_engine.launch.user_flags import UserFlags


@dataclass(frozen=True, slots=True)
class Features:
    speculation: Speculation | None = None
    adapters: Adapters = field(default_factory=Adapters)
    sleep: bool = False

    @property
    def weight_bytes(self) -> int:
        """Beside the model's own."""
        draft = self.speculation.draft if self.speculation else None
        return (draft.weight_bytes if draft else 0) + sum(adapter.weight_bytes for adapter in self.adapters.each)

    def flags(self, user: UserFlags) -> tuple[str, ...]:
        speculation = self.speculation.flags() if self.speculation else ()
        return (*speculation, *self.adapters.flags(user), *(("--enable-sleep-mode",) if self.sleep else ()))

    def rows(self) -> dict[str, str]:
        """For the plan; nothing for what is not used."""
        rows = {"speculation": self.speculation.describe()} if self.speculation else {}
        if self.adapters.each:
            rows["adapters"] = self.adapters.describe()
        return rows | ({"sleep": "on request"} if self.sleep else {})


def plan_features(
    *, model: Model, served_name: str, speculative: str | None, draft: Path | None, adapters: Sequence[str], sleep: bool,
    cpu: bool, user: UserFlags,
) -> Features:  # fmt: skip
    """Raises EngineFailure where one of them cannot work with this model, this image or the user's flags."""
    for name in ("--speculative-config", "--spec-method", "--spec-model", "--spec-tokens"):
        _check_said_once(name, "spec.engine.speculative", asked=bool(speculative), user=user)
    for name in ("--lora-modules", "--enable-lora"):
        _check_said_once(name, "spec.model.adapters", asked=bool(adapters), user=user)
    if draft is not None and speculative is None:
        raise _refused("--draft-model goes with --speculative, which says how it is used.")
    if sleep and cpu:
        raise _refused("An engine on CPUs cannot sleep: vLLM gives memory back on GPUs alone. Remove sleep.")
    return Features(
        speculation=plan_speculation(read_request(speculative), model=model, draft=draft) if speculative else None,
        adapters=inspect_adapters(adapters, model=model, served_name=served_name, cpu=cpu, user=user),
        sleep=sleep,
    )


def _check_said_once(flag: str, place: str, *, asked: bool, user: UserFlags) -> None:
    if asked and user.has(flag):
        raise _refused(f"{place} and {flag} in extraArgs say the same thing twice: remove the flag.")


def _refused(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_ENGINE_CONFIG_INVALID, message)
