"""What a simulated engine is about to do, for the first lines of its log."""

from tokenfleet_engine.simulation.faults import Orders
from tokenfleet_engine.simulation.models import Models
from tokenfleet_engine.simulation.settings import Settings


def describe(models: Models, settings: Settings, *, port: int, drain_seconds: int) -> str:
    limits, fitted = settings.limits, settings.timing.fitted
    orders = [
        f"--{name.replace('_', '-')} {getattr(settings.orders, name):g}"
        for name in Orders.__dataclass_fields__
        if getattr(settings.orders, name) != getattr(Orders(), name)
    ]
    rows = {
        "model": f"{models.base}, simulated: the text means nothing",
        "adapters": ", ".join(models.adapters) or "none",
        "context": f"{settings.max_model_len} tokens",
        "batch": f"{limits.max_num_seqs} sequences, {limits.max_num_batched_tokens} tokens a step",
        "KV cache": f"{limits.blocks * limits.block_size} tokens in blocks of {limits.block_size}, "
        f"prefixes {'shared' if limits.prefix_caching else 'not shared'}",
        "timing": f"{fitted['model']} on {fitted['hardware']}" if fitted else "as --ttft-ms and --itl-ms say",
        "speed": f"{settings.speed:g} x",
        "failures": " ".join(orders) or "none ordered",
        "ignored": " ".join(settings.ignored) or "nothing",
        "port": str(port),
        "goodbye": f"{drain_seconds} s to finish what runs",
    }
    width = max(map(len, rows))
    return "\n".join(["Tokenfleet engine, simulated", *(f"  {name:<{width}}  {value}" for name, value in rows.items())])
