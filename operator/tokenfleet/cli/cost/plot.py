"""Both costs by traffic, as a picture: the API's straight line, and the steps of own replicas."""

from pathlib import Path
from typing import Final

from tokenfleet.cli.errors import CliError
from tokenfleet.planning.cost import ApiPrices, BreakEven, OwnReplicas, curve

_OWN, _API, _INK, _GRID, _WIN = "#2a78d6", "#e34948", "#52514e", "#e1e0d9", "#1baf7a"
_REPLICAS: Final = 6
"""That the picture has room for, at least."""
_MOST_REPLICAS: Final = 40
"""And at most: of more, no step can be seen."""


def draw(
    own: OwnReplicas, api: ApiPrices, result: BreakEven, path: Path, *, input_tokens: int, output_tokens: int, currency: str
) -> None:
    from matplotlib.figure import Figure

    least, most = (own.capacity * max(count, 2 * own.at_least) for count in (_REPLICAS, _MOST_REPLICAS))
    until = min(max(least, 1.3 * (result.always or 0.0)), most)
    points = curve(own, api, input_tokens=input_tokens, output_tokens=output_tokens, until=until)
    rates = [point.rate for point in points]
    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, [point.own for point in points], color=_OWN, linewidth=1.8, label="own replicas")
    axes.plot(rates, [point.api for point in points], color=_API, linewidth=1.8, label="API")
    if result.first is not None:
        axes.axvline(result.first, color=_WIN, linewidth=1.2, linestyle="--", label=f"own win from {result.first:.3g}/s")
    axes.set_xlabel(f"requests/s of {input_tokens:,} tokens in and {output_tokens:,} out", color=_INK)
    axes.set_ylabel(f"{currency} an hour", color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlim(0, until)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, labelcolor=_INK)
    try:
        figure.savefig(path)
    except OSError as error:
        raise CliError(f"The plot could not be written: {error}.") from error
