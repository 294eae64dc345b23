"""How long it takes from the request that wakes a model until a replica serves it, part by part. Decides nothing."""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Awakening:
    """Of one LLMDeployment, from one decision on. Seconds on a clock that only goes on."""

    asked_at: float
    """When the router told of the request."""
    decided_at: float
    up_at: float | None = None
    """When the first pod's containers were ready."""

    def up(self, now: float) -> None:
        if self.up_at is None:
            self.up_at = now

    def parts(self, now: float) -> dict[str, float]:
        """Now that a replica is used: seconds by part, as METRIC_WAKE_SECONDS has them."""
        up_at = now if self.up_at is None else self.up_at
        return {
            "decide": self.decided_at - self.asked_at,
            "pod": up_at - self.decided_at,
            "use": now - up_at,
            "all": now - self.asked_at,
        }


def told(parts: dict[str, float]) -> str:
    """For people."""
    return (
        f"A replica serves, {parts['all']:.1f} s after the request that woke it: "
        f"{parts['decide']:.1f} s until this was decided, {parts['pod']:.1f} s until a pod was ready, "
        f"{parts['use']:.1f} s until all routers used it."
    )
