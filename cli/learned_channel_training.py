"""Learned access's training from the command line: `semlink train-learned-channel`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.from_settings import ImageFolder, MostImages, fail
from cli.training import AdamRate, Batch, HoldOut, Passed, Seed, train_on_rest
from semlink.access.learned.bandwidth import CBRS

SourceModels = Annotated[
    Path, typer.Argument(help="Folder that semlink train-learned-source wrote: source.safetensors, interface.npy.")
]
AccessFolder = Annotated[Path, typer.Argument(help="Folder for the networks, their card and checkpoint.")]


def train_learned_channel(
    source: SourceModels,
    data: ImageFolder,
    out: AccessFolder,
    channel: Annotated[Literal["awgn", "rayleigh"], typer.Option(help="What the air does.")] = "awgn",
    variant: Annotated[
        Literal["full", "no-interface-attention", "no-ian", "split"],
        typer.Option(help="What the networks know of the bits' importance; split: nothing, at an SNR of 20 dB."),
    ] = "full",
    size: Annotated[Literal["small", "paper"], typer.Option(help="Dimensions of the networks.")] = "small",
    cbr: Annotated[
        str | None,
        typer.Option(help=f"Channel bandwidth ratio, {', '.join(CBRS)}: of size paper. Size small has all."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Folder of an earlier training of this size and variant to start from.")
    ] = None,
    images: Passed = 100_000,
    batch: Batch = 64,
    learning_rate: AdamRate = 2e-3,
    hold_out: HoldOut = "split=test",
    most_images: MostImages = None,
    seed: Seed = 0,
) -> None:
    """Train the learned coder's channel mapper and demapper through a source demapper that stays as it is.

    DATA has 32 x 32 pictures, with a manifest.csv or in one folder a class. What is held out is measured once, at
    the end; a small share of every class of the rest chooses the weights that stay. Goes on from its checkpoint
    when it was interrupted. Uses a GPU where there is one.
    """
    from experiments.training.learned_channel import LearnedChannelOptions
    from experiments.training.learned_channel import train_learned_channel as training

    if (cbr is None) == (size == "paper"):
        fail("--cbr is for --size paper, and has no default there", status=2)
    if cbr is not None and cbr not in CBRS:
        fail(f"--cbr must be one of {', '.join(CBRS)}, not {cbr}", status=2)
    options = LearnedChannelOptions(
        "access", channel, variant, size, cbr, start, images, batch, learning_rate, seed
    )
    card = train_on_rest(
        lambda options, *rest: training(options, source, *rest), options, data, hold_out, most_images, out
    )
    measured = card["held_out"]
    rows = "; ".join(
        f"CBR {ratio} {', '.join(f'{psnr:.2f}' for psnr in row.values())}"
        for ratio, row in measured["psnr_db"].items()
    )
    levels = ", ".join(next(iter(measured["psnr_db"].values())))
    typer.echo(f"{out}: PSNR in dB of {measured['images']} pictures held out, at SNR {levels} dB: {rows}")
