"""Learned access by OpenVINO: bits of tiles to symbols, received symbols to bits, without torch.

What the access node and the receiver's radio run (Kong and Zhang, Fig. 1): the access node has the bits and the
interface, and knows nothing of pictures. The networks are those that `semlink train-learned-channel` made, a pair
for each kind of channel; the package brings two.
"""

import json
import threading
from functools import cache, cached_property
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semlink.access.learned.bandwidth import CBRS, TOKEN_BITS, TOKENS, token_symbols

ChannelKind = Literal["awgn", "rayleigh"]
PRETRAINED = Path(__file__).resolve().with_name("pretrained")
"""Folders of the networks that come with the package, one a kind of channel; models/README.md describes them."""
CARD = "access.json"
CHECK_SNR_DB = 10.0
TOLERANCE = 0.02
"""Of symbols of unit power and of probabilities, against torch's: weights are rounded to float16, which moves
them by a few thousandths; another model, bfloat16, or a processor that OpenVINO does not serve moves them by
more."""


class AccessError(RuntimeError):
    """The networks cannot be run; the message says what to do."""


class LearnedAccess:
    """Channel mapper and demapper for one kind of channel and one channel bandwidth ratio.

    Args:
        channel: whose networks of the package, "awgn" or "rayleigh"; or a folder with networks of one's own.
        cbr: channel bandwidth ratio, one of `semlink.access.learned.bandwidth.CBRS`.

    Raises:
        ValueError: no such channel or ratio, or networks that were not trained for it.
        AccessError: OpenVINO or the files are missing, or it does not answer as torch did.
    """

    def __init__(self, channel: ChannelKind | Path, cbr: str) -> None:
        """Read and check the networks; they are kept for the next."""
        self.cbr, self._used = cbr, token_symbols(cbr)
        self._networks = _read(_folder(channel))
        if cbr not in self._networks.card["cbr"]:
            raise ValueError(f"these networks are for cbr {', '.join(self._networks.card['cbr'])}, not for {cbr}")

    @property
    def interface(self) -> bytes:
        """4 bytes: of the interface that these networks were trained for."""
        return self._networks.interface

    @property
    def symbols(self) -> int:
        """L, complex symbols of a tile."""
        return TOKENS * self._used

    def map(self, bits: ArrayLike, snr_db: float) -> NDArray[np.complex128]:
        """Symbols of tiles (equation 2).

        Args:
            bits: (tiles, 64, 96) of 0 and 1, and 0.5 where a bit is absent. snr_db: mean SNR in dB that the
            access node believes in; within what was trained for it counts as it is.

        Returns:
            (tiles, L) of mean power one over each tile; the symbols of a token stand side by side.

        Raises:
            ValueError: `bits` is not of this shape and range.
        """
        values = np.asarray(bits, np.float32)
        if values.ndim != 3 or values.shape[1:] != (TOKENS, TOKEN_BITS):
            raise ValueError(f"bits must be (tiles, {TOKENS}, {TOKEN_BITS}), not {values.shape}")
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("bits must be within 0 and 1")
        sent = self._networks.mapped(values, snr_db, self._used)[:, :, : self._used].astype(np.float64)
        symbols: NDArray[np.complex128] = (sent[..., 0] + 1j * sent[..., 1]).reshape(len(values), -1)
        return symbols

    def probabilities(
        self, received: NDArray[np.complex128], gain: ArrayLike, snr_db: float
    ) -> NDArray[np.float32]:
        """Probabilities that bits are 1 (equation 5 before it rounds).

        Args:
            received: (tiles, L) received symbols, divided by the channel's coefficients h.
            gain: |h| of each symbol, (tiles, L), or one for all; 1 where nothing fades.
            snr_db: mean SNR in dB, at |h| = 1.

        Returns:
            (tiles, 64, 96) within [0, 1].

        Raises:
            ValueError: shapes that do not fit, or something that is not finite.
        """
        if received.ndim != 2 or received.shape[1] != self.symbols:
            raise ValueError(f"received must be (tiles, {self.symbols}), not {received.shape}")
        gains = np.broadcast_to(np.asarray(gain, np.float64), received.shape)
        if not (np.isfinite(received).all() and np.isfinite(gains).all()):
            raise ValueError("received symbols and gains must be finite")
        wide = self._networks.symbols
        seen = np.zeros((len(received), TOKENS, wide, 2), np.float32)
        by_token = received.reshape(-1, TOKENS, self._used)
        seen[:, :, : self._used, 0], seen[:, :, : self._used, 1] = by_token.real, by_token.imag
        padded = np.ones((len(received), TOKENS, wide), np.float32)
        padded[:, :, : self._used] = gains.reshape(by_token.shape)
        return self._networks.demapped(seen, padded, snr_db, self._used)

    def demap(self, received: NDArray[np.complex128], gain: ArrayLike, snr_db: float) -> NDArray[np.uint8]:
        """(tiles, 64, 96) bits 0 and 1 (equation 5): `probabilities`, rounded."""
        return (self.probabilities(received, gain, snr_db) > 0.5).astype(np.uint8)


class _Networks:
    """Both networks of a folder, each read when it is first used; any number of threads may call them."""

    def __init__(self, folder: Path) -> None:
        try:
            self.card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
            ratios = [cbr for cbr in CBRS if cbr in self.card["cbr"]]
            self.symbols = token_symbols(ratios[-1])
            self.interface, self._check = bytes.fromhex(self.card["interface"]), dict(self.card["check"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise AccessError(
                f"no networks of learned access in {folder} ({error!r}); "
                "`semlink train-learned-channel` makes them"
            ) from error
        self._folder = folder
        self._lock = threading.Lock()

    def mapped(self, bits: NDArray[np.float32], snr_db: float, used: int) -> NDArray[np.float32]:
        """(tiles, 64, symbols, 2)."""
        return self._answer(self._mapper, [bits, *_state(len(bits), snr_db, used)])

    def demapped(
        self, received: NDArray[np.float32], gain: NDArray[np.float32], snr_db: float, used: int
    ) -> NDArray[np.float32]:
        """(tiles, 64, 96)."""
        return self._answer(self._demapper, [received, gain, *_state(len(received), snr_db, used)])

    def check(self) -> None:
        """Compares both with what torch answered when they were exported.

        Raises:
            AccessError: they differ.
        """
        bits = (np.arange(TOKENS * TOKEN_BITS, dtype=np.float32) % 2).reshape(1, TOKENS, TOKEN_BITS)
        sent = self.mapped(bits, CHECK_SNR_DB, self.symbols)
        self._compare("symbols", sent)
        seen = self.demapped(sent, np.ones(sent.shape[:3], np.float32), CHECK_SNR_DB, self.symbols)
        self._compare("probabilities", seen)

    def _compare(self, what: str, answer: NDArray[np.float32]) -> None:
        """Refuses another answer than torch's for the first token of the first tile."""
        found = answer[:1, :1].ravel()  # empty where OpenVINO answers nothing, as on a CPU without AVX2
        expected = np.array(self._check.get(what))
        off = float(np.abs(found - expected).max()) if found.shape == expected.shape else inf
        if not off <= TOLERANCE:
            raise AccessError(
                f"OpenVINO's {what} of {self._folder} are off by {off:.1e} from torch's: files that do not "
                "belong together, or a processor that OpenVINO does not serve; "
                "--access qam and ldpc-qam do without"
            )

    def _answer(self, request: Any, inputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        with self._lock:
            answer: NDArray[np.float32] = np.array(request.infer(inputs)[0])
        return answer

    @cached_property
    def _mapper(self) -> Any:
        return _compiled(self._folder / "mapper.xml")

    @cached_property
    def _demapper(self) -> Any:
        return _compiled(self._folder / "demapper.xml")


def _state(tiles: int, snr_db: float, used: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.full(tiles, snr_db, np.float32), np.full(tiles, used, np.float32)


def _folder(channel: ChannelKind | Path) -> Path:
    if isinstance(channel, Path):
        return channel.resolve()
    if channel not in ("awgn", "rayleigh"):
        raise ValueError(f"learned access is for awgn and rayleigh, not for {channel!r}")
    return PRETRAINED / channel


@cache
def _read(folder: Path) -> _Networks:
    networks = _Networks(folder)
    networks.check()
    return networks


def _compiled(file: Path) -> Any:
    try:
        import openvino
    except ImportError as error:
        raise AccessError(f"learned access needs OpenVINO ({error}): pip install 'semlink[access]'") from error
    settings: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": "f32",  # where the CPU has it, bfloat16 is the default
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # processes that share a machine would be pinned to the same cores
    }
    try:
        return openvino.Core().compile_model(str(file), "CPU", settings).create_infer_request()
    except RuntimeError as error:
        raise AccessError(
            f"OpenVINO cannot run {file}: {error}; `semlink train-learned-channel` makes it"
        ) from error
