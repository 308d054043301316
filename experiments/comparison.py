"""Comparison of one photo at equal bits: every allocation method, every codec, exposed and behind an LDPC code."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from experiments.evaluation.coders import CODECS, PROTECTED, Received, send_frame, send_picture
from experiments.evaluation.ldpc import Code, best_code, error_rate
from semlink.channel.base import Channel
from semlink.channel.fading import FadingState
from semlink.source.iaq import coder as iaq
from semlink.source.iaq.allocation.methods import allocate, allocation_methods

WORDS = {
    "incremental": "IAQ",
    "water-filling": "IAQ, water-filling",
    "fixed": "equal bits",
    "top-k": "top-k patches",
    "attention-threshold": "threshold",
    "attention-sum-threshold": "threshold of the sum",
    "jpeg": "JPEG",
    "webp": "WebP",
    "avif": "AVIF",
}
"""Names for people, of those methods and codecs whose own are not."""
COLUMNS = 5
CAPTION_HEIGHT, MARGIN = 36, 6
PICTURES = {".png": "PNG", ".webp": "WEBP"}
"""Formats of the sheet, by the suffix of its file."""


@dataclass(frozen=True, eq=False)
class Sent:
    """What became of a photo that was sent in one way.

    Attributes:
        method: an allocation method, or a codec, with -ldpc behind a code.
        received: what arrived; None where it could not be sent so.
        problem: why it could not.
        code: that protects it.
        threshold: of the methods that have one.
    """

    method: str
    received: Received | None = None
    problem: str = ""
    code: Code | None = None
    threshold: float | None = None

    @property
    def name(self) -> str:
        """For people."""
        codec = PROTECTED.get(self.method)
        return f"{WORDS[codec]} + LDPC" if codec else WORDS.get(self.method, self.method)

    @property
    def kind(self) -> str:
        """A frame, an exposed file, or a coded one."""
        return "coded file" if self.method in PROTECTED else "file" if self.method in CODECS else "frame"

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        """(H, W, 3) as a model sees it and a person does."""
        if self.received is None:
            return None
        return np.clip(np.rint(self.received.pixels), 0, 255).astype(np.uint8)


def send_every_way(
    pixels: NDArray[np.uint8],
    attention: NDArray,
    channel: Channel,
    *,
    rho: float,
    gamma: float,
    design_ber: float,
    seed: int,
    methods: Collection[str] | None = None,
) -> Iterator[Sent]:
    """Sends a photo by every allocation method, then as a file of every codec, exposed and behind a code.

    All have the bits of a frame of ratio ρ with its header, or fewer, and all meet a channel of the same seed. Of
    frames the header is protected, as in the papers; of files every bit is exposed, or coded. Methods that go by a
    threshold have the one that spends most of the budget on this very photo.

    Args:
        pixels: (224, 224, 3) 8-bit.
        attention: (196,) of the device's model.
        channel: one that takes no plans.
        rho: compression ratio of the payload, in (0, 1].
        gamma: shape of the weight function (31).
        design_ber: bit error rate that the allocation assumes.
        seed: of the channel.
        methods: only these, by name; None: all.
    """
    steps = Fraction(iaq.MAX_BITS * attention.size) * Fraction(rho).limit_denominator(10_000)
    known = allocation_methods()
    for name in sorted(known, key=list({**WORDS, **known}).index):
        if methods is not None and name not in methods:
            continue
        method = known[name]
        threshold = spending(name, attention, int(steps)) if method.has_threshold else None
        received = send_frame(
            pixels,
            attention,
            channel,
            np.random.default_rng((seed, 0)),
            _state(channel, seed),
            method=name,
            rho=rho,
            gamma=gamma if method.weighs else 1.0,
            design_ber=design_ber if method.weighs else 0.0,
            threshold=threshold,
        )
        yield Sent(name, received, threshold=threshold)
    budget = iaq.HEADER_BITS + int(8 * pixels.size * rho)
    for name in (*CODECS, *(PROTECTED if error_rate(channel) != 0 else ())):
        if methods is None or name in methods:
            yield _picture(name, pixels, budget, channel, seed)


def spending(method: str, scores: NDArray, steps: int) -> float:
    """The threshold with which a method spends most bits on an image, and no more than the sum of all M_i allows.

    >>> spending("attention-threshold", np.array([0.1, 0.2, 0.7]), 16)
    0.1

    Args:
        method: attention-threshold or attention-sum-threshold.
        scores: (N,) importance.
        steps: Σ M_i that may be spent.
    """
    descending = np.sort(scores)[::-1]
    # Between two of these values the bits stay the same.
    candidates = np.concatenate([[0.0, 1.0, np.nextafter(scores.max(), 2)], descending, np.cumsum(descending)])
    spent = [int(allocate(method, scores, 0, threshold=threshold).sum()) for threshold in candidates]
    within = [(bits, threshold) for bits, threshold in zip(spent, candidates, strict=True) if bits <= steps]
    return float((max(within) if within else min(zip(spent, candidates, strict=True)))[1])


def psnr(sent: NDArray[np.uint8], received: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB, 10·log10(255²/MSE) over all values; infinite where nothing differs.

    >>> round(psnr(np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)))
    0
    """
    error = np.mean((sent.astype(np.float64) - received) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else math.inf


def draw(panels: Sequence[tuple[NDArray[np.uint8] | None, Sequence[str]]], path: Path) -> None:
    """Draws pictures with two lines of caption each, row by row, into a PNG or WebP.

    Args:
        panels: (224, 224, 3) pixels, None for an empty panel, and the lines.
        path: its suffix, of `PICTURES`, names the format.
    """
    side = 224
    rows = -(-len(panels) // COLUMNS)
    width, height = side + MARGIN, side + CAPTION_HEIGHT + MARGIN
    sheet = Image.new("RGB", (COLUMNS * width + MARGIN, rows * height + MARGIN), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (pixels, lines) in enumerate(panels):
        left, top = MARGIN + number % COLUMNS * width, MARGIN + number // COLUMNS * height
        for line, text in enumerate(lines):
            pen.text((left, top + 16 * line), text, fill="black", font=font)
        if pixels is None:
            pen.rectangle((left, top + CAPTION_HEIGHT, left + side, top + CAPTION_HEIGHT + side), outline="grey")
        else:
            sheet.paste(Image.fromarray(pixels), (left, top + CAPTION_HEIGHT))
    path.parent.mkdir(parents=True, exist_ok=True)
    options: Mapping[str, int] = {"quality": 55, "method": 6} if path.suffix == ".webp" else {}
    sheet.save(path, PICTURES[path.suffix], **options)


def _state(channel: Channel, seed: int) -> FadingState | None:
    return channel.draw_state(lambda *of: np.random.default_rng((seed, 0, 1, *of)), frame=0)


def _picture(method: str, pixels: NDArray[np.uint8], budget: int, channel: Channel, seed: int) -> Sent:
    codec, code = PROTECTED.get(method, method), None
    try:
        if method in PROTECTED:
            if (ber := error_rate(channel)) is None:
                return Sent(method, problem=f"no code rate is tabulated for {channel.name}")
            code = best_code(budget, ber)
        generator = np.random.default_rng((seed, 0))
        received = send_picture(pixels, codec, budget, channel, generator, code, _state(channel, seed))
    except ValueError as error:
        return Sent(method, problem=str(error))
    return Sent(method, received, code=code)
