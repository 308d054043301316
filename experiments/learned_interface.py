"""Learned interface beside Split DeepJSCC, its ablations and coded WebP and AVIF: PSNR, accuracy, pictures.

Counterparts of Fig. 5 to 8 of Kong and Zhang (arXiv 2507.12850): PSNR against SNR for four channel bandwidth
ratios over AWGN and Rayleigh fading, the ablations at CBR 1/24, and pictures. Beside them what the channel uses
could have carried instead: WebP and AVIF behind 5G LDPC codes and QAM, and at Shannon's capacity.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data.image_sets import ImageSet, load_image_set
from experiments.evaluation.coded_link import (
    CHANNEL_USES,
    KINDS,
    SNRS_DB,
    Kind,
    air,
    arrives,
    best_code,
    capacity_bits,
)
from experiments.evaluation.learned_link import VARIANTS, LearnedLink, find_links
from experiments.evaluation.measurement import progress_bar
from experiments.evaluation.picture_outcomes import Outcomes, kept, mean_interval
from experiments.evaluation.small_classifier import WEIGHTS, classify, load_classifier
from experiments.evaluation.small_pictures import (
    COLOUR,
    NOTHING,
    SETTINGS,
    PictureTable,
    load_pictures,
    measure_pictures,
    save_pictures,
    shown_by,
    squared_error,
)
from experiments.provenance import provenance
from experiments.training.small_classifier import pixels_of

CODECS = ("avif", "webp")
CODED = {f"{codec}-{bits}": (codec, bits) for codec in CODECS for bits in ("ldpc", "capacity")}
"""Ways of sending a picture file: codec, and what carries it."""
METHODS = (*VARIANTS, *CODED)
REFERENCE = "full"
"""The method whose lead over each other one is in the other's row."""
ABLATED_CBR = "1/24"
"""The one ratio of the ablations, as in the paper's Fig. 7."""
MOST_IMAGES = 1000
CACHE = Path("runs/cache/learned-interface")


@dataclass(frozen=True)
class Point:
    """A way of sending pictures over a channel."""

    method: str
    channel: Kind
    cbr: str
    snr_db: float

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.method}-{self.channel}-{self.cbr.replace('/', '-')}-{self.snr_db:g}"


class Measurement:
    """Pictures, networks and tables of one image set; points are measured once and kept on disk."""

    def __init__(self, data: ImageSet, links: dict[tuple[str, Kind], LearnedLink], seed: int, cache: Path) -> None:
        """Reads the pictures.

        Args:
            data: of the pictures that are sent.
            links: trained networks, by variant and kind of channel.
            seed: of the channel; every method meets the same draws.
            cache: folder of what was measured before.
        """
        self.data, self.links, self.seed = data, links, seed
        self.pixels = pixels_of(data.examples)
        self.truth = np.array([example.label for example in data.examples])
        identity = hashlib.sha256(f"{data.identity} {len(data.examples)} {seed}".encode())
        self.cache = cache / identity.hexdigest()[:16]
        self._judge = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:8] if WEIGHTS.is_file() else "nobody"
        self._labels: dict[tuple[str, int, int], int] = {}

    @cached_property
    def classifier(self) -> Any:
        """None where it was not trained for these classes, or not at all."""
        if not WEIGHTS.is_file():
            print(f"{WEIGHTS} is not there: accuracies are left out")
            return None
        model = load_classifier()
        return model if model.classes == self.data.classes else None

    def labels(self, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
        """(B,) answers of the classifier; -1 without one."""
        return np.full(len(pixels), -1) if self.classifier is None else classify(self.classifier, pixels)

    def points(self, cbr: str) -> Iterator[Point]:
        """The points of a ratio that can be measured, those of the learned methods first."""
        for method in METHODS:
            if method not in ("full", "split", *CODED) and cbr != ABLATED_CBR:
                continue
            for channel in KINDS:
                if method in CODED or (method, channel) in self.links:
                    yield from (Point(method, channel, cbr, snr_db) for snr_db in SNRS_DB)

    def outcomes(self, point: Point) -> Outcomes:
        """Of every picture, from disk where they were measured before."""
        if point.method in CODED:
            return self._coded(point)
        link = self.links[point.method, point.channel]
        return kept(self.file(point), lambda: self._learned(point, link))

    def file(self, point: Point) -> Path:
        """Where the outcomes of a learned method are kept: of these networks, these pictures, this classifier."""
        trained = hashlib.sha256(self.links[point.method, point.channel].identity.encode()).hexdigest()[:12]
        return self.cache / f"{point.name}-{trained}-{self._judge}.npz"

    def shown(self, point: Point, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(P, 32, 32, 3) some of the pictures as a method shows them."""
        if point.method in CODED:
            codec, _ = CODED[point.method]
            chosen, _ = self.chosen(point)
            return np.stack([shown_by(self.pixels[number], codec, int(chosen[number])) for number in numbers])
        met = air(point.channel, point.snr_db, len(self.pixels), CHANNEL_USES[point.cbr], self.seed)
        link = self.links[point.method, point.channel]
        return link.received(self._bits(link)[numbers], point.cbr, met.of(numbers))

    def chosen(self, point: Point) -> tuple[NDArray[np.int64], int]:
        """(B,) setting of `small_pictures` that every picture is shown by, and the bits of its message."""
        codec, carrier = CODED[point.method]
        if carrier == "capacity":
            most = capacity_bits(point.channel, point.snr_db, CHANNEL_USES[point.cbr])
            return self.tables[codec].best(most), most
        code, _ = best_code(point.channel, point.snr_db, point.cbr)
        chosen = self.tables[codec].best(code.k)
        return np.where(self._arrived(point) | (chosen == NOTHING), chosen, NOTHING), code.k

    @cached_property
    def tables(self) -> dict[str, PictureTable]:
        """Of each codec."""
        return {codec: self._table(codec) for codec in CODECS}

    def _table(self, codec: str) -> PictureTable:
        path = self.cache / f"{codec}.npz"
        if (found := load_pictures(path)) is None:
            with progress_bar() as progress:
                found = measure_pictures(
                    self.pixels,
                    codec,
                    lambda settings: progress.track(settings, description=f"{codec}, every size and quality"),
                )
            save_pictures(path, found)
        return found

    def _bits(self, link: LearnedLink) -> NDArray[np.bool_]:
        path = self.cache / f"bits-{link.source.interface.id.hex()}.npy"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            bits = link.source.bits(self.pixels)
            np.save(path, np.packbits(bits))
        packed = np.load(path)
        return np.unpackbits(packed).reshape(len(self.pixels), *link.source.interface.epsilon.shape).astype(bool)

    def _learned(self, point: Point, link: LearnedLink) -> Outcomes:
        met = air(point.channel, point.snr_db, len(self.pixels), CHANNEL_USES[point.cbr], self.seed)
        shown = link.received(self._bits(link), point.cbr, met)
        return Outcomes(squared_error(self.pixels, shown), self.labels(shown))

    def _coded(self, point: Point) -> Outcomes:
        codec, carrier = CODED[point.method]
        chosen, bits = self.chosen(point)
        errors = self.tables[codec].errors[np.arange(len(chosen)), chosen]
        sides = [SETTINGS[setting][0] for setting in chosen if setting < COLOUR]
        facts: dict[str, Any] = {
            "message_bits": bits,
            "sides": {str(side): round(sides.count(side) / len(chosen), 4) for side in sorted(set(sides))},
            "one_colour": float(np.mean(chosen == COLOUR)),
            "nothing": float(np.mean(chosen == NOTHING)),
        }
        if carrier == "ldpc":
            code, order = best_code(point.channel, point.snr_db, point.cbr)
            facts |= {"order": order, "rate": round(code.rate, 4), "lost": float(np.mean(~self._arrived(point)))}
        return Outcomes(errors, self._labels_of(codec, chosen), facts)

    def _labels_of(self, codec: str, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B,) answers to every picture as a setting shows it; those that were asked before are remembered."""
        if self.classifier is None:
            return np.full(len(chosen), -1)
        wanted = [(codec, number, int(setting)) for number, setting in enumerate(chosen)]
        if missing := [each for each in wanted if each not in self._labels]:
            shown = np.stack([shown_by(self.pixels[number], codec, setting) for _, number, setting in missing])
            self._labels |= dict(zip(missing, self.labels(shown).tolist(), strict=True))
        return np.array([self._labels[each] for each in wanted])

    def _arrived(self, point: Point) -> NDArray[np.bool_]:
        """(B,) whether the block of each picture arrives. Its bits are random, as 5G's scrambling makes them."""
        path = self.cache / f"blocks-{Point('', point.channel, point.cbr, point.snr_db).name}.npy"
        if not path.is_file():
            code, order = best_code(point.channel, point.snr_db, point.cbr)
            generator = np.random.default_rng((self.seed, code.k, code.n))
            scrambled = generator.integers(0, 2, (len(self.pixels), code.k), np.uint8)
            met = air(point.channel, point.snr_db, len(self.pixels), CHANNEL_USES[point.cbr], self.seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, arrives(scrambled, code, order, met))
        arrived: NDArray[np.bool_] = np.load(path)
        return arrived


def rows(measurement: Measurement, cbr: str, only_kept: bool = False) -> list[dict[str, Any]]:
    """A row for each point of a ratio: PSNR in dB, accuracy, and the lead of `REFERENCE` on the same pictures.

    With `only_kept`, of learned methods only the points that were measured before.
    """
    found: dict[Point, Outcomes] = {}
    points = list(measurement.points(cbr))
    if only_kept:
        points = [point for point in points if point.method in CODED or measurement.file(point).is_file()]
    with progress_bar() as progress:
        for point in progress.track(points, description=f"CBR {cbr}"):
            found[point] = measurement.outcomes(point)
    return [_row(measurement, point, found) for point in points]


def _row(measurement: Measurement, point: Point, found: dict[Point, Outcomes]) -> dict[str, Any]:
    outcomes = found[point]
    judged = measurement.classifier is not None
    row: dict[str, Any] = {
        "data": measurement.data.name,
        "images": len(measurement.pixels),
        "seed": measurement.seed,
        "method": point.method,
        "channel": point.channel,
        "cbr": point.cbr,
        "snr_db": point.snr_db,
        "psnr": mean_interval(outcomes.psnr),
        "accuracy": mean_interval(outcomes.labels == measurement.truth) if judged else None,
        **outcomes.facts,
    }
    ours = found.get(Point(REFERENCE, point.channel, point.cbr, point.snr_db))
    if ours is not None and point.method != REFERENCE:
        right = [(each.labels == measurement.truth).astype(float) for each in (ours, outcomes)]
        row["ahead"] = {
            "psnr": mean_interval(ours.psnr - outcomes.psnr),
            "accuracy": mean_interval(right[0] - right[1]) if judged else None,
        }
    if point.method in VARIANTS:
        row["networks"] = described(measurement.links[point.method, point.channel])
    return row | provenance()


def described(link: LearnedLink) -> dict[str, Any]:
    """Sizes and training of both stages, as their cards have them."""
    source = link.source_card
    return {
        "interface": link.card["interface"],
        "source": {
            "size": source.get("options", {}).get("size"),
            "interface": source.get("options", {}).get("interface"),
            "images": source.get("trained_on"),
            "passes": source.get("passes"),
        },
        "access": {
            "size": link.card["size"],
            "images": link.card["trained_on"],
            "passes": link.card["passes"],
            "seed": link.card["options"]["seed"],
        },
    }


def main(
    folder: Path, models: Path, out: Path, most_images: int | None, seed: int, only_kept: bool = False
) -> None:
    """Measures what is missing, writes the rows ratio by ratio, draws, and writes the table.

    Args:
        folder: image set with split=test.
        models: folder of trained networks, see `find_links`.
        out: folder of rows, pictures and table.
        most_images: of the test pictures, evenly from all classes; `MOST_IMAGES` if None.
        seed: of the channel.
        only_kept: draw what was measured before, and measure no networks.
    """
    from experiments.learned_interface_figures import draw_all
    from experiments.learned_interface_table import write_page

    test, _ = load_image_set(folder).where("split=test")
    chosen = test.at_most(most_images or MOST_IMAGES)
    measurement = Measurement(chosen, find_links(models), seed, CACHE)
    for variant in VARIANTS:
        for channel in KINDS:
            if (variant, channel) not in measurement.links:
                print(f"no networks of {variant} for {channel} below {models.name}: left out")
    name = f"learned-interface-{folder.name}"
    path = out / f"{name}.jsonl"
    part, found = path.with_suffix(".part"), []
    for cbr in CHANNEL_USES:
        found += rows(measurement, cbr, only_kept)
        part.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in found), encoding="utf-8")
        part.replace(path)
    print(path)
    draw_all(measurement, found, out, name)
    write_page(found, out / f"{name}.md", path.name)
