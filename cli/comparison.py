"""Comparison from the command line: `semlink compare`, one photo sent in every way at equal bits."""

import itertools
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.channel_flags import ChannelFlags
from cli.classify import predicted
from cli.from_settings import Settings, WeightsFolder, explained, fail, takes
from device.encoding import EncoderSettings
from semlink.channel.base import Channel
from semlink.vision.photos import find_photos
from semlink.vision.weights import DEVICE_MODEL, SERVER_MODEL, WeightsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.comparison import Sent

ENCODER = Settings(EncoderSettings, ("rho", "gamma", "design_ber"), "Encoder")
CHANNEL = ChannelFlags()
OUT = Path("runs/compare.png")


@takes(encoder=ENCODER, channel=CHANNEL)
def compare(
    *,
    photo: Annotated[str, typer.Argument(help="A picture file, or the name of one of scikit-image's (chelsea).")],
    encoder: EncoderSettings,
    channel: Channel,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the channel.")] = 0,
    weights: WeightsFolder = None,
    out: Annotated[Path, typer.Option(help="The picture to draw, a .png or .webp file.")] = OUT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the table.")] = False,
) -> None:
    """Compare what can be done with the same bits: send one photo in every way, see it, and ask what it is.

    Importance-aware quantization (IAQ), equal bits, top-k patches and thresholds of attention send frames; JPEG,
    WebP and AVIF send files, exposed to the channel's errors and behind an LDPC code of 5G at a rate that the
    channel allows. All have the bits of a frame at --rho, and the same model says what it sees.
    """
    from experiments.comparison import PICTURES

    if channel.takes_plan:
        fail(f"compare is for channels without plans; for {channel.name} there is semlink evaluate", status=2)
    if encoder.coding["rho"] == 0:
        fail("--rho must be above 0", status=2)
    if out.suffix not in PICTURES:
        fail(f"--out must end in {' or '.join(PICTURES)}, not {out.suffix or 'nothing'}", status=2)
    console = Console(stderr=True)
    with explained(WeightsError, ValueError, OSError), console.status("loading models"):
        document = comparison(photo, encoder, channel, seed, weights, out)
    if as_json:
        typer.echo(json.dumps(document, ensure_ascii=False, allow_nan=False))
    else:
        show(document, Console())
        typer.echo(f"Written: {out}")


def comparison(
    photo: str, encoder: EncoderSettings, channel: Channel, seed: int, weights: Path | None, out: Path
) -> dict[str, Any]:
    """Sends, classifies and draws; returns all but the pictures.

    Raises:
        WeightsError: no usable weights.
        ValueError: no such photo.
        OSError: the picture cannot be written.
    """
    import torch

    from experiments.comparison import draw, send_every_way
    from experiments.provenance import provenance
    from semlink.source.iaq.coder import HEADER_BITS
    from semlink.vision.images import model_pixels, open_image
    from semlink.vision.vit import class_attention, load_vit, normalise

    torch.set_num_threads(1)  # a dozen pictures: several threads take as long, and on a busy machine much longer
    settings = encoder.model_dump(include=set(ENCODER.names))
    pixels = model_pixels(open_image(find_photos([photo])[0]))
    device = load_vit(DEVICE_MODEL, weights=weights)
    attention = class_attention(device, normalise(device, pixels[None]))[0].numpy().astype(np.float64)
    sent = list(
        send_every_way(
            pixels,
            attention,
            channel,
            seed=seed,
            **settings,
        )
    )
    arrived = [each.pixels for each in sent if each.pixels is not None]
    server = load_vit(SERVER_MODEL, weights=weights)
    undamaged, *answers = (likeliest for (likeliest,) in predicted(server, [pixels, *arrived], 1))
    left = iter(answers)
    rows = [row_of(each, pixels, next(left) if each.received else None, undamaged) for each in sent]
    captions = [(pixels, ("undamaged", f"{undamaged['name']} {undamaged['confidence']:.2f}"))]
    draw([*captions, *((each.pixels, caption(row)) for each, row in zip(sent, rows, strict=True))], out)
    return {
        "photo": photo,
        "channel": channel_document(channel),
        **settings,
        "seed": seed,
        "budget_bits": HEADER_BITS + int(8 * pixels.size * settings["rho"]),
        "model": str(server.origin),
        "undamaged": undamaged,
        "rows": rows,
        "picture": str(out),
        **provenance(),
    }


def row_of(
    sent: "Sent", pixels: "NDArray[np.uint8]", answer: dict[str, Any] | None, undamaged: dict[str, Any]
) -> dict[str, Any]:
    """One way's results: `psnr_db` is None where nothing differs, all of them where it could not be sent so."""
    from experiments.comparison import psnr

    row: dict[str, Any] = {"method": sent.method, "name": sent.name, "kind": sent.kind}
    row["problem"] = sent.problem or None
    code, received = sent.code, sent.received
    row["code"] = code and {"blocks": code.blocks, "k": code.k, "n": code.n, "rate": code.k / code.n}
    row["threshold"] = sent.threshold
    if received is None or answer is None or sent.pixels is None:
        return row | dict.fromkeys(("answer", "agrees", "psnr_db", "bits", "flips_percent", "undecodable"))
    ratio = psnr(pixels, sent.pixels)
    return row | {
        "answer": answer,
        "agrees": answer["label"] == undamaged["label"],
        "psnr_db": ratio if math.isfinite(ratio) else None,
        "bits": received.bits,
        "flips_percent": 100 * received.more["bit_errors"],
        "undecodable": received.lost,
    }


def caption(row: dict[str, Any]) -> tuple[str, str]:
    """Two lines over a panel: how it was sent, and what the model sees in it."""
    if row["problem"]:
        return row["name"], "not sent"
    if row["undecodable"]:
        return row["name"], "cannot be decoded"
    answer = row["answer"]
    return row["name"], f"{answer['name'][:18]} {answer['confidence']:.2f}, {decibels(row)} dB"


def decibels(row: dict[str, Any]) -> str:
    """PSNR in words."""
    return "∞" if row["psnr_db"] is None else f"{row['psnr_db']:.1f}"


def channel_document(channel: Channel) -> dict[str, Any]:
    """The channel's name, and its parameters that have an effect."""
    told = {
        name: value for name, value in asdict(channel).items() if value is not None and name not in channel.idle
    }
    return {"type": channel.name, **told}


def show(document: dict[str, Any], console: Console) -> None:
    """Prints the table, and why ways are missing in it."""
    named = ", ".join(f"{name} {value}" for name, value in document["channel"].items() if name != "type")
    undamaged = document["undamaged"]
    table = Table(
        title=f"{escape(document['photo'])} over {document['channel']['type']}"
        f"{f', {named}' if named else ''}, seed {document['seed']}: {document['budget_bits']:,} bits at "
        f"ρ = {document['rho']:g}",
        caption=f"undamaged: {undamaged['name']} {undamaged['confidence']:.3f}; model: {document['model']}",
    )
    for name in ("sent as", "label", "confidence", "PSNR dB", "bits", "flips %"):
        table.add_column(name, justify="left" if name in ("sent as", "label") else "right")
    kinds = itertools.groupby(document["rows"], key=lambda row: row["kind"])
    for number, (_, rows) in enumerate(kinds):
        if number:
            table.add_section()
        for row in rows:
            table.add_row(*cells(row))
    console.print(table)
    for problem in dict.fromkeys(row["problem"] for row in document["rows"] if row["problem"]):
        console.print(f"Not sent: {problem}", soft_wrap=True, highlight=False, markup=False)


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table; in bold what the model sees in the undamaged photo too."""
    if row["problem"]:
        return [row["name"], "not sent, see below", *[""] * 4]
    code = f", rate {row['code']['rate']:.2f}" if row["code"] else ""
    bits, flips = f"{row['bits']:,}", f"{row['flips_percent']:.3g}"
    if row["undecodable"]:
        return [row["name"] + code, "cannot be decoded", "", "", bits, flips]
    answer = row["answer"]
    label = f"[bold]{answer['name']}[/]" if row["agrees"] else answer["name"]
    return [row["name"] + code, label, f"{answer['confidence']:.3f}", decibels(row), bits, flips]
