"""`tokenfleet cost break-even`: from which traffic on own replicas cost less than an API that is paid by the token."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenfleet.cli import options
from tokenfleet.cli.cost.drawing import amount
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.scaling.plot import check_plot
from tokenfleet.errors import InvalidSpec
from tokenfleet.planning.accelerators import Accelerator, find_accelerator
from tokenfleet.planning.cost import ApiPrices, BreakEven, OwnReplicas, hourly
from tokenfleet.planning.cost import break_even as compared
from tokenfleet.planning.cost.break_even import DAY
from tokenfleet.planning.serving import Serving


def break_even(
    accelerator: Annotated[str, typer.Option(help="Class of the own GPUs: `tokenfleet accelerators`.")],
    input_tokens: Annotated[int, typer.Option("--input", help="Tokens of a request's prompt.")],
    output_tokens: Annotated[int, typer.Option("--output", help="Tokens of its answer.")],
    api_input: Annotated[float, typer.Option(help="The API's price of a million tokens in.")],
    api_output: Annotated[float, typer.Option(help="The API's price of a million tokens out.")],
    rate_per_replica: Annotated[
        float | None, typer.Option(help="Requests a second that a replica takes, as measured (`tokenfleet bench`).")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Instead: the model, to estimate that rate.", metavar="SOURCE")] = None,
    ttft: Annotated[float | None, typer.Option(help="With --model: seconds to the first token, at most.")] = None,
    itl: Annotated[float | None, typer.Option(help="With --model: seconds between two tokens, at most.")] = None,
    gpus: Annotated[int, typer.Option(min=1, help="Of a replica; they share each layer.")] = 1,
    replicas: Annotated[int, typer.Option(min=1, help="That run whatever the traffic is.")] = 1,
    price: Annotated[float | None, typer.Option(help="Of a GPU for an hour, instead of the class's.")] = None,
    spot: Annotated[bool, typer.Option("--spot", help="At the price of spot.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw both costs into this PNG, SVG or PDF.")] = None,
    as_json: options.Json = False,
    _accelerators: options.Accelerators = None,
) -> None:
    """Say from which traffic on own GPUs cost less than an API.

    tokenfleet cost break-even --accelerator nvidia-h100-80gb --rate-per-replica 8 --input 1000 --output 300
    --api-input 0.5 --api-output 1.5

    Replicas are added as the traffic needs them, each a whole one. Exit code 3: there is no such traffic.
    """
    if plot is not None:
        check_plot(plot)
    found = _find(accelerator)
    cost = price * gpus if price is not None else hourly(found, gpus, 1, spot=spot)
    if cost is None:
        raise Unusable(f"{accelerator} has no price: give --price, or --accelerators with a file that has one.")
    if (rate_per_replica is None) == (model is None):
        raise Unusable("How many requests a replica takes has to be known: give --rate-per-replica, or --model; one of both.")
    rate = rate_per_replica
    if model is not None:
        rate = _estimated(model, Serving(accelerator=found, tensor=gpus), (input_tokens, output_tokens), ttft=ttft, itl=itl)
    assert rate is not None
    own = OwnReplicas(hourly=cost, capacity=rate, at_least=replicas)
    api = ApiPrices(input=api_input, output=api_output)
    try:
        result = compared(own, api, input_tokens=input_tokens, output_tokens=output_tokens)
    except ValueError as error:
        raise Unusable(f"{str(error)[0].upper()}{str(error)[1:]}.") from error
    currency = found.price.currency if found.price is not None and price is None else "USD"
    tokens = input_tokens + output_tokens
    if as_json:
        typer.echo(json.dumps({**_as_json(own, result, tokens=tokens, currency=currency), "estimated": model is not None}))
    else:
        what = f"{gpus} × {accelerator}"
        typer.echo(_words(own, result, what, tokens=tokens, currency=currency, estimated=model is not None))
    if plot is not None:
        from tokenfleet.cli.cost.plot import draw

        draw(own, api, result, plot, input_tokens=input_tokens, output_tokens=output_tokens, currency=currency)
        typer.echo(f"Drawn into {plot}.", err=True)
    if result.first is None:
        raise typer.Exit(3)


def _find(name: str) -> Accelerator:
    try:
        return find_accelerator(name)
    except InvalidSpec as error:
        raise Unusable(str(error).replace("spec.accelerator", "--accelerator")) from error


def _estimated(model: str, serving: Serving, tokens: tuple[int, int], *, ttft: float | None, itl: float | None) -> float:
    from tokenfleet.cli.plan.models import read_model
    from tokenfleet.planning.memory import estimate_memory
    from tokenfleet.planning.speed import UnknownSpeed, max_rate

    if not serving.accelerator.plannable:
        raise Unusable(f"{serving.accelerator.name} has no figures to estimate with: give --rate-per-replica.")
    facts = read_model(model)
    memory = estimate_memory(facts, serving)
    if not memory.fits:
        raise CliError(
            f"The model does not fit {serving.tensor} × {serving.accelerator.name}: `tokenfleet plan memory` says why."
        )
    try:
        rate = max_rate(facts, serving, input_tokens=tokens[0], output_tokens=tokens[1], ttft=ttft, itl=itl, memory=memory)
    except (UnknownSpeed, ValueError) as error:
        raise CliError(f"The rate cannot be estimated: {error} Measure it, and give --rate-per-replica.") from error
    if rate <= 0:
        raise CliError("No rate of requests meets --ttft and --itl there: allow more, or take another accelerator.")
    return rate


def _words(own: OwnReplicas, result: BreakEven, what: str, *, tokens: int, currency: str, estimated: bool) -> str:
    takes = f"{own.capacity:.3g} requests/s{', as estimated' if estimated else ''}"
    thousand = amount(result.own_request * 1000, currency), amount(result.api_request * 1000, currency)
    lines = [
        f"A replica ({what}) costs {amount(own.hourly, currency, digits=4)} an hour and takes {takes}: "
        f"{thousand[0]} for 1,000 requests when fully used.",
        f"The API takes {thousand[1]} for 1,000 requests.",
    ]
    if result.first is None:
        lines.append(
            f"Own GPUs never win: a replica would have to take {result.used * own.capacity:.3g} requests/s, "
            f"{result.used:.2f} times as many as it does."
        )
        return "\n".join(lines)
    lines.append(
        f"Own GPUs win from {result.first:.3g} requests/s on ({_day(result.first * tokens * DAY)} tokens a day): "
        f"{result.replicas} replica{'s' if result.replicas != 1 else ''}, "
        f"{result.first / (own.capacity * (result.replicas or 1)):.0%} used."
    )
    if result.always is None:
        lines.append(
            "Only where every replica is fully used: with each that is added, the API is cheaper until that one is, too."
        )
    elif result.always > result.first * (1 + 1e-9):
        lines.append(
            f"Just above a whole number of replicas the API may be cheaper again; from {result.always:.3g} requests/s on never."
        )
    return "\n".join(lines)


def _day(tokens: float) -> str:
    for unit, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if tokens >= unit:
            return f"{tokens / unit:.3g} {name}"
    return f"{tokens:,.0f}"


def _as_json(own: OwnReplicas, result: BreakEven, *, tokens: int, currency: str) -> dict[str, Any]:
    return {
        "currency": currency,
        "replicaHourly": own.hourly,
        "requestsPerSecondPerReplica": own.capacity,
        "ownPerRequest": result.own_request,
        "apiPerRequest": result.api_request,
        "usedShare": result.used,
        "firstRequestsPerSecond": result.first,
        "firstTokensPerDay": result.tokens_per_day(tokens),
        "alwaysRequestsPerSecond": result.always,
        "replicas": result.replicas,
    }
