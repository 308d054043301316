"""Command line of the figures and tables: `python -m experiments NAME [DATA]`; without a name, a list of them."""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cli.from_settings import MostImages, explained, fail
from experiments.data.image_sets import ImageSetError
from semlink.vision.weights import WeightsError

MEASURED = (
    "figure4",
    "figure5",
    "figure6",
    "ofdm_figure2",
    "ofdm_figure3",
    "ofdm_figure4",
    "ofdm_figure5",
    "ofdm_table1",
    "servers",
    "tables",
)
"""Modules that measure an image set, or write of what was measured of it."""
SETS = "imagenet-sample-1000, eth80, cifar10"

app = typer.Typer(
    help="Measures and draws the counterparts of the papers' figures and tables. What is committed in "
    "experiments/results is not measured again; what is new goes to runs/experiments, unless --update is given.",
    no_args_is_help=True,
    add_completion=False,
)

DataFolder = Annotated[
    Path,
    typer.Argument(help=f"Folder of one of the image sets {SETS}.", exists=True, file_okay=False),
]
Out = Annotated[
    Path | None, typer.Option(help="Folder for rows, pictures and tables.", show_default="runs/experiments")
]
Update = Annotated[
    bool,
    typer.Option("--update", help="Write into experiments/results, whose files are committed."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the channels; another one is measured anew.")]


def out_folder(out: Path | None, update: bool) -> Path:
    """Where results go; ends the command if two places are named."""
    from experiments.study import RESULTS

    if out is not None and update:
        fail("--out and --update exclude each other", status=2)
    folder = RESULTS if update else out or Path("runs/experiments")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def measuring(module: str) -> Callable[..., None]:
    """The command of a module that measures an image set."""

    def command(
        data: DataFolder,
        out: Out = None,
        update: Update = False,
        most_images: MostImages = None,
        seed: Seed = 0,
        processes: Annotated[int, typer.Option(min=1, help="How many work at once.")] = 2,
    ) -> None:
        from experiments.study import Measured

        with explained(ImageSetError, WeightsError, ModuleNotFoundError, OSError):
            folder = out_folder(out, update)
            measured = Measured(data.resolve(), folder, most_images, seed, processes)
            importlib.import_module(f"experiments.{module}").main(measured)

    return command


def figure7(
    data: Annotated[
        Path | None, typer.Argument(help=f"Folder of one of {SETS}.", show_default="scikit-image's photographs")
    ] = None,
    out: Out = None,
    update: Update = False,
) -> None:
    """Its help is the module's summary."""
    from experiments import figure7
    from experiments.study import Measured

    with explained(ImageSetError, WeightsError, ValueError, OSError):
        folder = out_folder(out, update)
        figure7.main(None if data is None else Measured(data.resolve(), folder), folder)


def ber(out: Out = None, update: Update = False, seed: Seed = 0) -> None:
    """Its help is the module's summary."""
    from experiments import ber
    from experiments.study import RESULTS

    with explained(OSError):
        folder = out_folder(out, update)
        ber.main(folder, [] if update else [RESULTS / "ber.jsonl"], seed)


def asking(out: Out = None, update: Update = False) -> None:
    """Its help is the module's summary."""
    from experiments import asking

    with explained(OSError):
        asking.main(out_folder(out, update))


def asking_tries(
    looks: Annotated[
        Path, typer.Argument(help="Folder of what python -m experiments.still_kinds wrote.", exists=True)
    ],
    out: Out = None,
    update: Update = False,
) -> None:
    """Its help is the module's summary."""
    from experiments import asking_tries

    with explained(OSError):
        asking_tries.main(out_folder(out, update), looks)


def containers(out: Out = None, update: Update = False) -> None:
    """Its help is the module's summary."""
    from experiments import containers

    with explained(OSError):
        containers.main(out_folder(out, update))


def transformer_aided(
    data: Annotated[
        Path,
        typer.Argument(help="Folder of an image set with a column split.", exists=True, file_okay=False),
    ],
    weights: Annotated[
        Path, typer.Option(help="Folder of the model for its classes, with the folder token-decoder in it.")
    ],
    received: Annotated[Path, typer.Option(help="Folder of the classifier that semlink train-received wrote.")],
    out: Out = None,
    update: Update = False,
    most_images: Annotated[int, typer.Option(min=1, help="At most so many test images.")] = 303,
    seed: Seed = 0,
) -> None:
    """Its help is the module's summary."""
    from experiments import transformer_aided

    with explained(ImageSetError, WeightsError, OSError):
        folder = out_folder(out, update)
        transformer_aided.main(data.resolve(), weights, received, folder, most_images, seed)


def token_blocks(
    data: Annotated[
        Path,
        typer.Argument(help="Folder of photos of ImageNet-1k's classes.", exists=True, file_okay=False),
    ],
    out: Out = None,
    update: Update = False,
    most_images: Annotated[int, typer.Option(min=1, help="At most so many photos are measured.")] = 100,
) -> None:
    """Its help is the module's summary."""
    from experiments import token_blocks

    with explained(ImageSetError, WeightsError, OSError):
        token_blocks.main(data.resolve(), out_folder(out, update), most_images)


def learned_interface(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder of CIFAR-10, or of pictures of 32 x 32 or more, with split=test.", exists=True
        ),
    ],
    models: Annotated[
        Path, typer.Option(help="Folder of what semlink train-learned-source and train-learned-channel wrote.")
    ] = Path("runs/models/learned-interface"),
    out: Out = None,
    update: Update = False,
    most_images: MostImages = None,
    seed: Seed = 0,
    only_kept: Annotated[
        bool, typer.Option("--only-kept", help="Draw what was measured before; measure no networks.")
    ] = False,
) -> None:
    """Its help is the module's summary."""
    from experiments import learned_interface

    with explained(ImageSetError, WeightsError, ValueError, OSError):
        folder = out_folder(out, update)
        learned_interface.main(data.resolve(), models.resolve(), folder, most_images, seed, only_kept)


def bit_importance(
    data: DataFolder,
    out: Out = None,
    update: Update = False,
    most_images: Annotated[int, typer.Option(min=64, help="At most so many pictures are measured.")] = 500,
    seed: Seed = 0,
) -> None:
    """Its help is the module's summary."""
    from experiments import bit_importance
    from experiments.data.image_sets import load_image_set

    with explained(ImageSetError, WeightsError, OSError):
        held_out, _ = load_image_set(data).where("split=test")
        bit_importance.main(held_out.at_most(most_images), out_folder(out, update), seed)


def flipped_bits(out: Out = None, update: Update = False, seed: Seed = 0) -> None:
    """Its help is the module's summary."""
    from experiments import flipped_bits

    with explained(OSError):
        flipped_bits.main(out_folder(out, update), seed)


def protection(out: Out = None, update: Update = False, seed: Seed = 0) -> None:
    """Its help is the module's summary."""
    from experiments import protection

    with explained(OSError):
        protection.main(out_folder(out, update), seed)


def opinion_bits(
    data: Annotated[
        Path,
        typer.Argument(help="Folder of photos of ImageNet-1k's classes.", exists=True, file_okay=False),
    ],
    out: Out = None,
    update: Update = False,
    most_images: Annotated[int, typer.Option(min=1, help="At most so many photos of either half.")] = 500,
) -> None:
    """Its help is the module's summary."""
    from experiments import opinion_bits

    with explained(ImageSetError, WeightsError, OSError):
        opinion_bits.main(data.resolve(), out_folder(out, update), most_images)


def readme() -> None:
    """Its help is the module's summary."""
    from experiments import readme

    readme.main()


def summary_of(module: str) -> str:
    """First line of a module's docstring, without importing what it needs."""
    source = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


for name in MEASURED:
    app.command(name.replace("_", "-"), help=summary_of(name))(measuring(name))
app.command("figure7", help=summary_of("figure7"))(figure7)
app.command("ber", help=summary_of("ber"))(ber)
app.command("bit-importance", help=summary_of("bit_importance"))(bit_importance)
app.command("asking", help=summary_of("asking"))(asking)
app.command("asking-tries", help=summary_of("asking_tries"))(asking_tries)
app.command("containers", help=summary_of("containers"))(containers)
app.command("token-blocks", help=summary_of("token_blocks"))(token_blocks)
app.command("transformer-aided", help=summary_of("transformer_aided"))(transformer_aided)
app.command("learned-interface", help=summary_of("learned_interface"))(learned_interface)
app.command("flipped-bits", help=summary_of("flipped_bits"))(flipped_bits)
app.command("protection", help=summary_of("protection"))(protection)
app.command("opinion-bits", help=summary_of("opinion_bits"))(opinion_bits)
app.command("readme", help=summary_of("readme"))(readme)

if __name__ == "__main__":
    app()
