"""Learned coder's training from the command line: `semlink train-learned-source`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.from_settings import ImageFolder, MostImages
from cli.training import AdamRate, Batch, HoldOut, Passed, Seed, train_on_rest

SourceFolder = Annotated[
    Path, typer.Argument(help="Folder for source.safetensors, interface.npy, their card and checkpoint.")
]
Size = Annotated[Literal["small", "paper"], typer.Option(help="Widths and depths of the networks.")]


def train_learned_source(
    data: ImageFolder,
    out: SourceFolder,
    interface: Annotated[
        Literal["learned", "prescribed"],
        typer.Option(
            help="Flip probabilities trained with the networks, or fixed in levels, as Split DeepJSCC has them."
        ),
    ] = "learned",
    size: Size = "small",
    strength: Annotated[
        float | None,
        typer.Option(
            min=0, help="λ of the regularization: how much flips are wanted; learned only.  [default: 300]"
        ),
    ] = None,
    low: Annotated[
        float | None,
        typer.Option(min=1e-6, max=0.499, help="Least flip probability; prescribed only.  [default: 0.001]"),
    ] = None,
    high: Annotated[
        float | None,
        typer.Option(min=1e-6, max=0.499, help="Largest flip probability; prescribed only.  [default: 0.061]"),
    ] = None,
    images: Passed = 300_000,
    batch: Batch = 64,
    learning_rate: AdamRate = 1e-3,
    hold_out: HoldOut = "split=test",
    most_images: MostImages = None,
    seed: Seed = 0,
) -> None:
    """Train the learned coder's source mapper and demapper, and the importance of their bits, on 32 x 32 pictures.

    DATA has a manifest.csv or one folder a class. What is held out is measured once, at the end; a small share of
    every class of the rest chooses the weights that stay. Goes on from its checkpoint when it was interrupted.
    Uses a GPU where there is one.
    """
    from experiments.training.learned_source import LearnedSourceOptions
    from experiments.training.learned_source import train_learned_source as training

    only = {"strength": strength} if interface == "prescribed" else {"low": low, "high": high}
    for name, value in only.items():
        if value is not None:
            raise typer.BadParameter(f"--{name} has no effect beside --interface {interface}")
    options = LearnedSourceOptions(
        "source",
        size,
        interface,
        300.0 if strength is None else strength,
        0.001 if low is None else low,
        0.061 if high is None else high,
        images,
        batch,
        learning_rate,
        seed,
    )
    card = train_on_rest(training, options, data, hold_out, most_images, out)
    measured = card["held_out"]
    typer.echo(
        f"{out}/source.safetensors, interface {card['id']}: {measured['psnr_db']:.2f} dB on {measured['images']} "
        f"pictures held out, {measured['psnr_db_flipped']:.2f} dB with bits flipped as the interface says"
    )
