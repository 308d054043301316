"""Evaluation from the command line: `semlink evaluate`, and `semlink unpack` for its images."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from cli.channel_flags import ChannelFlags
from cli.from_settings import ImageFolder, MostImages, WeightsFolder, explained, fail, takes
from cli.source_flags import ChosenSources, SourceFlags
from experiments.data import ImageSetError
from experiments.data.image_sets import HOLD_OUT
from semlink.access.load_planner import LOAD_METHODS
from semlink.access.mapping import SubcarrierMapping
from semlink.access.planner import PlanMethod
from semlink.channel.base import Channel, Erring
from semlink.parameters import flag_of
from semlink.source.iaq.coder import WEIGHING
from semlink.vision.weights import SERVER_MODEL, WeightsError


class PolicyName(StrEnum):
    """Policies that are cells of their own."""

    ALONE = "alone"
    ASK = "ask"


METHODS = ("incremental",)
PLANS = (PlanMethod.IA_QSMPA,)
LOAD_PLANS = (PlanMethod.EXACT,)
RATIOS = [0.125, 0.25]
POLICIES = "Policy"
"""Heading of their options in the help."""
CHANNELS = ChannelFlags(several=True, initial={"ber": 0.0})
"""Without any flag the channel is the binary symmetric one, and free of errors."""


@takes(sources=SourceFlags(), channels=CHANNELS)
def evaluate(
    *,
    data: ImageFolder,
    out: Annotated[Path, typer.Argument(help="JSON lines file; what it holds already is not measured again.")],
    only: Annotated[
        str,
        typer.Option(
            help="Images to measure on: COLUMN=VALUE of the manifest, label=odd, or share=0.2, those that "
            '"semlink train" holds out where nothing else is said.'
        ),
    ] = HOLD_OUT,
    sources: ChosenSources,
    channels: list[Channel],
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="For channels without plans: allocation methods, and codecs to compare with: jpeg, webp, avif; "
            "over bsc, awgn and rayleigh also behind an LDPC code at the best tabulated rate: jpeg-ldpc, "
            "webp-ldpc, avif-ldpc. The undamaged images are always measured too; clean: these alone.",
            show_default="incremental",
        ),
    ] = None,
    gamma: Annotated[
        list[float] | None,
        typer.Option(help="For channels without plans: shapes of the weight function (31).", show_default="1.0"),
    ] = None,
    modified: Annotated[
        bool,
        typer.Option("--modified", help="Measure methods that allow for bit errors told the channel's ber too."),
    ] = False,
    plan: Annotated[
        list[PlanMethod] | None,
        typer.Option(
            help="For channels that take plans: how frames are planned; of source coders but iaq as they are: "
            f"{', '.join(LOAD_METHODS)}.",
            show_default="ia-qsmpa; exact for frames as they are",
        ),
    ] = None,
    mapping: Annotated[
        list[SubcarrierMapping] | None,
        typer.Option(
            help="For channels that take plans: subchannels of important patches.", show_default="importance"
        ),
    ] = None,
    policy: Annotated[
        list[PolicyName] | None,
        typer.Option(
            help="For channels without plans: ask, the dialogue, and alone, the one-way link, in place of coders "
            "and methods where none is named. Every camera that sends, all, is its source coder's own.",
            rich_help_panel=POLICIES,
        ),
    ] = None,
    target_accuracy_loss: Annotated[
        list[float] | None,
        typer.Option(
            help="For --policy: points below the server's accuracy on undamaged pictures to aim at.",
            show_default="1.0",
            rich_help_panel=POLICIES,
        ),
    ] = None,
    budget_bits: Annotated[
        list[float] | None,
        typer.Option(help="For --policy: mean bits of a view to aim at instead.", rich_help_panel=POLICIES),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="For --policy: file that semlink calibrate wrote.",
            show_default="the package's own",
            rich_help_panel=POLICIES,
        ),
    ] = None,
    rho: Annotated[
        list[float] | None,
        typer.Option(help="Compression ratios of the payload.", show_default=" ".join(map(str, RATIOS))),
    ] = None,
    device_weights: WeightsFolder = None,
    server_model: Annotated[
        str,
        typer.Option(
            help="timm name of the server's model; efficientnet_lite2: a stand-in for one that is better than the "
            "device, of the extra stand-in."
        ),
    ] = SERVER_MODEL,
    server_weights: Annotated[Path | None, typer.Option(help="Folder with its NAME.safetensors.")] = None,
    bfloat16: Annotated[
        bool, typer.Option(help="Compute the server's model in bfloat16: half the time where the CPU has it.")
    ] = False,
    most_images: MostImages = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the channel.")] = 0,
    processes: Annotated[int, typer.Option(min=0, help="How many work at once; 0: one a core.")] = 0,
    cache: Annotated[Path, typer.Option(help="Keeps pixels and attention.")] = Path("runs/cache"),
    csv: Annotated[Path | None, typer.Option(help="Write the rows into this file too, with every column.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw accuracy along the setting with most values: a .png, .svg or .pdf file."),
    ] = None,
) -> None:
    """Measure the accuracy of the link over a set of images: every combination of methods, ratios and channels.

    Options take several values: --channel awgn --snr 0 10 20 --order 4 16 are six channels. Appends one JSON row
    for each combination to OUT, and ends with a table of them, with 95 % intervals. The thresholds of the methods
    that have one are tuned to each ρ on images that are not measured on. Interrupted, it goes on where it was.
    """
    planned = [channel for channel in channels if channel.takes_plan]
    plain = [channel for channel in channels if not channel.takes_plan]
    if not plain:
        of_plain = {"method": method, "gamma": gamma, "modified": modified, "policy": policy}
        for name, given in of_plain.items():
            if given:
                fail(f"{flag_of(name)} is for channels without plans; {planned[0].name} has --plan", status=2)
    if not planned:
        for name, wanted in {"plan": plan, "mapping": mapping}.items():
            if wanted:
                fail(f"{flag_of(name)} is for channels that take plans, not for {plain[0].name}", status=2)
    if modified and not any(isinstance(channel, Erring) for channel in plain):
        fail(
            f"--modified is for channels with a ber, which a method can be told, not for {plain[0].name}", status=2
        )
    if not policy:
        of_policies = {
            "target_accuracy_loss": target_accuracy_loss, "budget_bits": budget_bits, "calibration": calibration
        }  # fmt: skip
        for name, target in of_policies.items():
            if target:
                fail(f"{flag_of(name)} is for --policy", status=2)
    if not sources.iaq:
        of_iaq = {"method": method, "gamma": gamma, "modified": modified, "rho": rho}
        for name, given in of_iaq.items():
            if given:
                fail(f"{flag_of(name)} is for --source iaq, which is not among those given", status=2)
    methods = (method or (() if policy else METHODS)) if sources.iaq else ()
    if (gamma or modified) and not any(name in methods for name in WEIGHING):
        fail(
            f"{'--gamma' if gamma else '--modified'} is for --method {' or '.join(WEIGHING)}, "
            f"not for {', '.join(methods)}",
            status=2,
        )
    for name, given in {"gamma": gamma, "modified": modified, "rho": rho}.items():
        if given and not methods and not planned:
            fail(f"{flag_of(name)} is for --method; name one beside --policy", status=2)
    with explained(ImageSetError, WeightsError, ValueError, ModuleNotFoundError, OSError):
        from experiments.evaluation import summary
        from experiments.evaluation.grid import grid
        from experiments.evaluation.measurement import measure_cells, measured
        from experiments.evaluation.policy_cells import aimed
        from experiments.evaluation.run import Run

        if plot is not None:
            summary.check_plot(plot)
        cells = grid(
            channels,
            methods=methods,
            gammas=gamma or (1.0,),
            told=modified,
            plans=(plan or PLANS) if sources.iaq else (),
            load_plans=plan or LOAD_PLANS,
            mappings=mapping or (SubcarrierMapping.IMPORTANCE,),
            rhos=rho or RATIOS,
            sources=sources.others,
            policies=aimed(
                [each.value for each in policy or ()], calibration, target_accuracy_loss or (), budget_bits or ()
            ),
        )
        run = Run(
            data=data,
            only=only,
            out=out,
            cache=cache,
            most_images=most_images,
            device_weights=device_weights,
            server_model=server_model,
            server_weights=server_weights,
            bfloat16=bfloat16,
            seed=seed,
            processes=processes or os.cpu_count() or 1,
            calibration=calibration,
        )
        for path in (csv, plot):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
        images, known = len(run.images().examples), measured(run)
        there = sum(cell in known for cell in cells)
        typer.echo(f"{len(cells)} cells of {images} images, {there} of them measured already", err=True)
        rows = measure_cells(run, cells)
        if csv is not None:
            summary.write_csv(rows, csv)
        if plot is not None:
            summary.plot(rows, plot)
    summary.show(rows, Console())


def unpack(
    source: Annotated[
        Path,
        typer.Argument(
            help="cifar-100-binary or cifar-10-batches-bin; or a folder with manifest.csv and a tar archive."
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="Folder to fill, for `semlink train` and `semlink evaluate`.")],
) -> None:
    """Make a folder of images and a manifest.csv of CIFAR's binary release, or of an archive with a manifest."""
    from experiments.data.unpack import unpack

    with explained(ImageSetError, OSError), Progress(console=Console(stderr=True)) as progress:
        count = unpack(source, folder, progress)
    typer.echo(f"{folder}: {count} images, manifest.csv")
