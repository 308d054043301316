"""Options that commands share: which bits a patch gets, which weights are looked at first."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from semlink.source.iaq.allocation.methods import Method, check_threshold
from semlink.source.iaq.coder import HEADER_BITS
from semlink.source.iaq.distortion import MAX_CONVEX_BIT_ERROR_RATE

WeightsFolder = Annotated[
    Path | None, typer.Option(help="Folder with NAME.safetensors, looked into first.", envvar="SEMLINK_WEIGHTS")
]


@dataclass(frozen=True)
class Allocation:
    """What `iaq.coder.encode` is told of the allocation; each field is an option of `takes_allocation`."""

    method: Annotated[Method, typer.Option(help="How bits are allocated to the patches.")] = Method.INCREMENTAL
    rho: Annotated[
        float, typer.Option(min=0, max=1, help="Compression ratio of the payload to the 8-bit image.")
    ] = 0.25
    total_bits: Annotated[
        int | None, typer.Option(min=HEADER_BITS, help="Budget for header and payload together, instead of --rho.")
    ] = None
    gamma: Annotated[
        float, typer.Option(help="How strongly attention steers the bits: shape of the weight (31).")
    ] = 1.0
    design_ber: Annotated[
        float,
        typer.Option(min=0, max=MAX_CONVEX_BIT_ERROR_RATE, help="Bit error rate that the allocation assumes."),
    ] = 0.0
    threshold: Annotated[float | None, typer.Option(help="Of attention, for the two methods that go by one.")] = (
        None
    )


def takes_allocation(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of an `Allocation` where its signature has the keyword `allocation`.

    The command that they make ends, before it begins, if they contradict each other.
    """
    options = [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(Allocation)
    ]

    @functools.wraps(command)
    def told(**given: Any) -> None:
        allocation = Allocation(**{option.name: given.pop(option.name) for option in options})
        try:
            check_threshold(allocation.method, allocation.threshold)
        except ValueError as error:
            fail(error, status=2)
        command(allocation=allocation, **given)

    signature = inspect.signature(command)
    parameters = signature.parameters.values()
    told.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[part for own in parameters for part in (options if own.name == "allocation" else [own])]
    )
    return told


def fail(reason: object, status: int = 1) -> NoReturn:
    """Ends the command and says why."""
    typer.echo(f"semlink: {reason}", err=True)
    raise typer.Exit(status)
