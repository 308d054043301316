"""Frame cell: IAQ frames and picture files over a channel without plans, such as IAQ's binary symmetric one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import bisect

from experiments.data.prepared import Prepared
from experiments.evaluation.cells import SentCell, Tuning, channel_title
from experiments.evaluation.coders import CODECS, PROTECTED, Received, send_frame, send_picture
from experiments.evaluation.ldpc import TARGET, Code, best_code, error_rate
from semlink.channel.base import Channel, Erring
from semlink.channel.none import NoImpairment
from semlink.source.iaq import coder as iaq
from semlink.source.iaq.allocation.methods import allocate, allocation_methods
from semlink.vision.images import IMAGE_SIZE

CLEAN = "clean"
"""The method of the cell without any link: the model on the undamaged images."""


NO_CHANNEL = NoImpairment()
CHANNEL_SHARES = ("bit_errors", "lost_blocks")
"""Of `Received.more`: shares of a payload's bits that arrived inverted, and of its segments that did not."""


@dataclass(frozen=True)
class Found:
    """What is found once for all images of a cell: the code of protected pictures, or the tuned threshold."""

    code: Code | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class FrameCell(SentCell):
    """One setting of the link over a channel without plans; also none, for the clean cell.

    Attributes:
        method: an allocation method, a codec, a codec behind an LDPC code, or clean. A method that goes by a
            threshold has the one that spends ρ on average over images that are not measured.
        rho: compression ratio ρ of the payload; a codec gets as many bits in all as the frame of this ρ has.
        gamma: shape of the weight function (31).
        design_ber: bit error rate that the allocation assumes.

    Raises:
        ValueError: there is no such method, or a setting is out of its range.
    """

    channel: Channel = NO_CHANNEL
    method: str = CLEAN
    rho: float = 1.0
    gamma: float = 1.0
    design_ber: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what no frame could be sent with."""
        named = (*allocation_methods(), *CODECS, *PROTECTED, CLEAN)
        if self.method not in named:
            raise ValueError(f"method must be one of {', '.join(named)}, not {self.method!r}")
        if not 0 < self.rho <= 1:
            raise ValueError(f"rho must be within (0, 1], not {self.rho}")
        if self.channel.takes_plan:
            raise ValueError(f"{self.channel.name} takes frames with a plan")
        if self.method in PROTECTED and error_rate(self.channel) is None:
            raise ValueError(
                f"{self.method} crosses channels of independent errors, not {channel_title(self.channel)}"
            )

    @property
    def title(self) -> str:
        """In words, for the progress bar."""
        return f"{self.method}, ρ = {self.rho:g}, {channel_title(self.channel)}"

    def shared(self, tuning: Tuning) -> Found:
        """The code of protected pictures, and the threshold of the methods that have one."""
        if self.method in PROTECTED and (ber := error_rate(self.channel)):
            return Found(code=best_code(self._budget, ber))
        known = allocation_methods()
        if self.method in known and known[self.method].has_threshold:
            return Found(threshold=tuning(self.method, self.rho))
        return Found()

    def send(self, shared: Found, prepared: Prepared, image: int, seed: int) -> Received:
        """An image as it arrives; cells of one seed meet the same errors image by image."""
        pixels, generator = prepared.pixels[image], np.random.default_rng((seed, image))
        if self.method == CLEAN:
            return Received(pixels, 8 * pixels.size, None, lost=False)
        state = self.channel.draw_state(lambda *of: np.random.default_rng((seed, image, 1, *of)), frame=image)
        if self.method in CODECS or self.method in PROTECTED:
            codec = PROTECTED.get(self.method, self.method)
            return send_picture(pixels, codec, self._budget, self.channel, generator, shared.code, state)
        return send_frame(
            pixels,
            prepared.attention[image],
            self.channel,
            generator,
            state,
            method=self.method,
            rho=self.rho,
            gamma=self.gamma,
            design_ber=self.design_ber,
            threshold=shared.threshold,
        )

    def fields(self, shared: Found, seen: Mapping[str, NDArray]) -> dict[str, Any]:
        """The code of protected pictures, the tuned threshold, and what the channel did on average."""
        code = shared.code
        found = {
            "code": None if code is None else asdict(code) | {"rate": code.k / code.n, "target": TARGET},
            "threshold": shared.threshold,
        }
        return found | {name: float(values.mean()) for name, values in seen.items() if name in CHANNEL_SHARES}

    @property
    def _budget(self) -> int:
        """Bits of a picture on the air: those of a frame with its header."""
        return iaq.HEADER_BITS + int(8 * IMAGE_SIZE * IMAGE_SIZE * 3 * self.rho)


def weighs(method: str) -> bool:
    """Whether a method weighs distortion by importance: γ, and a bit error rate to allow for, mean something."""
    known = allocation_methods()
    return method in known and known[method].weighs


def channel_ber(channel: Channel) -> float:
    """μ where it is given, so that a method can be told of it; of any other channel 0."""
    return channel.ber if isinstance(channel, Erring) else 0.0


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
