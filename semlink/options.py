"""Options that commands share: which bits a patch gets, which weights are looked at first."""

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from semlink.allocation.methods import Method, check_threshold
from semlink.distortion import MAX_CONVEX_BIT_ERROR_RATE
from semlink.iaq import HEADER_BITS

Rho = Annotated[float, typer.Option(min=0, max=1, help="Compression ratio of the payload to the 8-bit image.")]
Gamma = Annotated[float, typer.Option(help="How strongly attention steers the bits: shape of the weight (31).")]
AllocationMethod = Annotated[Method, typer.Option(help="How bits are allocated to the patches.")]
TotalBits = Annotated[
    int | None, typer.Option(min=HEADER_BITS, help="Budget for header and payload together, instead of --rho.")
]
Threshold = Annotated[float | None, typer.Option(help="Of attention, for the two methods that go by one.")]
DesignBer = Annotated[
    float, typer.Option(min=0, max=MAX_CONVEX_BIT_ERROR_RATE, help="Bit error rate that the allocation assumes.")
]
WeightsFolder = Annotated[
    Path | None, typer.Option(help="Folder with NAME.safetensors, looked into first.", envvar="SEMLINK_WEIGHTS")
]


def allocation_of(
    method: Method, rho: float, total_bits: int | None, gamma: float, design_ber: float, threshold: float | None
) -> dict[str, Any]:
    """What `semlink.iaq.encode` is told of the allocation; ends the command if it contradicts itself."""
    try:
        check_threshold(method, threshold)
    except ValueError as error:
        fail(error, status=2)
    return {
        "method": method,
        "rho": rho,
        "total_bits": total_bits,
        "gamma": gamma,
        "design_ber": design_ber,
        "threshold": threshold,
    }


def fail(reason: object, status: int = 1) -> NoReturn:
    """Ends the command and says why."""
    typer.echo(f"semlink: {reason}", err=True)
    raise typer.Exit(status)
