"""Binary symmetric channel: cells of an evaluation whose frames or picture files cross it, as in IAQ."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import bisect

from experiments.data.prepared import Prepared
from experiments.evaluation.coders import CODECS, PROTECTED, Received, send_frame, send_picture
from experiments.evaluation.ldpc import TARGET, Code, best_code
from semlink.source.iaq import coder as iaq
from semlink.source.iaq.allocation.methods import allocate, allocation_methods
from semlink.vision.images import IMAGE_SIZE

CLEAN = "clean"
"""The cell without any link: the model on the undamaged images."""


@dataclass(frozen=True)
class BscCell:
    """One setting of the link over a binary symmetric channel; also none, for the clean cell.

    Attributes:
        method: an allocation method, a codec, a codec behind an LDPC code, or clean.
        rho: compression ratio ρ of the payload; a codec gets as many bits in all as the frame of this ρ has.
        gamma: shape of the weight function (31).
        ber: bit error rate μ of the channel.
        design_ber: bit error rate that the allocation assumes.
        threshold: of the methods that have one; tuned by method and ρ, so that cells are equal without it.
    """

    method: str
    rho: float = 1.0
    gamma: float = 1.0
    ber: float = 0.0
    design_ber: float = 0.0
    threshold: float | None = field(default=None, compare=False)

    @property
    def title(self) -> str:
        """In words, for the progress bar."""
        return f"{self.method}, ρ = {self.rho:g}, μ = {self.ber:g}"

    def shared(self) -> Code | None:
        """The code of protected pictures."""
        return best_code(self._budget, self.ber) if self.method in PROTECTED and self.ber > 0 else None

    def send(self, code: Code | None, prepared: Prepared, image: int, seed: int) -> Received:
        """An image as it arrives; cells of one seed meet the same errors image by image."""
        pixels, generator = prepared.pixels[image], np.random.default_rng((seed, image))
        if self.method == CLEAN:
            return Received(pixels, 8 * pixels.size, None, lost=False)
        if self.method in CODECS or self.method in PROTECTED:
            codec = PROTECTED.get(self.method, self.method)
            return send_picture(pixels, codec, self._budget, self.ber, generator, code)
        return send_frame(
            pixels,
            prepared.attention[image],
            self.ber,
            generator,
            method=self.method,
            rho=self.rho,
            gamma=self.gamma,
            design_ber=self.design_ber,
            threshold=self.threshold,
        )

    def fields(self, code: Code | None, seen: Mapping[str, NDArray]) -> dict:
        """The code of protected pictures, for the row."""
        return {"code": None if code is None else asdict(code) | {"rate": code.k / code.n, "target": TARGET}}

    @property
    def _budget(self) -> int:
        """Bits of a picture on the air: those of a frame with its header."""
        return iaq.HEADER_BITS + int(8 * IMAGE_SIZE * IMAGE_SIZE * 3 * self.rho)


def grid(
    methods: Iterable[str],
    rhos: Iterable[float],
    gammas: Iterable[float],
    bers: Iterable[float],
    *,
    modified: bool,
    thresholds: Mapping[tuple[str, float], float],
) -> list[BscCell]:
    """Every combination, each once, and the clean cell.

    Args:
        methods: names of allocation methods and codecs; a protected codec is the plain one where μ = 0. The clean
            cell, which there always is, may be named too.
        rhos: ratios ρ.
        gammas: shapes γ, for the methods that weigh.
        bers: bit error rates μ of the channel.
        modified: adds the paper's modified methods, which know μ.
        thresholds: by method and ρ, for the methods that have one.
    """
    cells: dict[BscCell, None] = {BscCell(CLEAN): None}
    known = allocation_methods()
    sent_by = [method for method in methods if method != CLEAN]
    for method, rho, gamma, ber in itertools.product(sent_by, rhos, gammas, bers):
        weighs = method in known and known[method].weighs
        threshold = thresholds.get((method, rho))
        sent = BscCell(method, rho, gamma if weighs else 1.0, ber, threshold=threshold)
        cells[sent] = None
        if modified and weighs and ber > 0:
            cells[replace(sent, design_ber=ber)] = None
    return list(cells)


def tune_threshold(method: str, attention: NDArray, rho: float) -> float:
    """The threshold at which a method spends ρ on average over images (IAQ, Section V), by bisection.

    Args:
        method: attention-threshold or attention-sum-threshold.
        attention: (B, N) attention of images other than those that are measured.
        rho: wanted mean compression ratio of the payload.

    Returns:
        In [0, 1]; 0 or 1 where all thresholds spend too much or too little.
    """

    def excess(threshold: float) -> float:
        bits = [allocate(method, scores, 0, threshold=threshold) for scores in attention]
        # Never 0: the mean is a step function, and the end of a step is better defined than any point on it.
        return float(np.mean(bits)) / iaq.MAX_BITS - rho + 1e-12

    ends = (0.0, 1.0)
    if excess(ends[0]) * excess(ends[1]) > 0:
        return min(ends, key=lambda end: abs(excess(end)))
    return bisect(excess, *ends, xtol=1e-9)
