"""Why there are so many replicas: one word each, and what it means. docs/scaling.md shows this table."""

from typing import Final

QUEUE_DEPTH: Final = "QueueDepth"
CONCURRENCY: Final = "Concurrency"
TTFT: Final = "TtftAboveSlo"
ITL: Final = "ItlAboveSlo"
WAKE_UP: Final = "WakeUp"
LOAD_FELL: Final = "LoadFell"
IDLE: Final = "Idle"
MIN_REPLICAS: Final = "MinReplicas"
MAX_REPLICAS: Final = "MaxReplicas"
BUDGET_EXHAUSTED: Final = "BudgetExhausted"
REPLICAS_SET: Final = "ReplicasSet"
SIGNAL_MISSING: Final = "SignalMissing"
SCALED_TO_ZERO: Final = "ScaledToZero"
PODS_PENDING: Final = "PodsPending"
WARMING_UP: Final = "WarmingUp"
STEADY: Final = "Steady"

REASONS: Final = {
    QUEUE_DEPTH: "More requests wait than `queueDepth` for each replica and those that are starting will take: more replicas.",
    CONCURRENCY: "More requests run and wait than `concurrency` for each replica: more replicas.",
    TTFT: "First tokens take longer than `slo.ttftMilliseconds` at the 95th percentile: one replica more.",
    ITL: "Tokens take longer than `slo.itlMilliseconds` at the 95th percentile: one replica more.",
    WAKE_UP: "A request came, and no replica was wanted: at least one.",
    LOAD_FELL: "The load has fitted on fewer replicas for `scaleDown.stabilizationSeconds`, with room to spare: these few.",
    IDLE: "No request for `scaleToZeroAfterSeconds`: none.",
    MIN_REPLICAS: "`minReplicas`, or that of the schedule that holds, is all that keeps so many.",
    MAX_REPLICAS: "`maxReplicas`, or that of the schedule that holds, allows no more, and more are wanted.",
    BUDGET_EXHAUSTED: "The namespace's quota of GPUs has no room for more, or cannot be read, and more are wanted.",
    REPLICAS_SET: "Somebody set `spec.replicas`: that many, and the wait until replicas become fewer begins anew.",
    SIGNAL_MISSING: "No load is known, since not every router reports: no fewer, and after two minutes at least one.",
    SCALED_TO_ZERO: "None runs. The next request wakes the model.",
    PODS_PENDING: "Some of the replicas have no node yet. They count neither as capacity nor against more.",
    WARMING_UP: "Some of the replicas do not serve yet. Those that are loading count as capacity to come.",
    STEADY: "The load needs as many as there are.",
}
"""By reason: its meaning, as a row of the page has it."""
