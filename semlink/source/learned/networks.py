"""Pretrained source mapper and demapper of an interface: files of a folder, read once a process.

A folder holds interface.npy, source.safetensors (float16, with size and the interface's identity in its metadata),
and the card.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from semlink.source.learned.interface import (
    BITS,
    FILE,
    PRETRAINED,
    SIDE,
    TOKENS,
    Interface,
    know_interface,
    load_interface,
)
from semlink.source.learned.mapper import CHANNELS, SIZES, SourceDemapper, SourceMapper
from semlink.vision.network_engine import NetworkEngine
from semlink.vision.weights import WeightsError

WEIGHTS = "source.safetensors"
PACKAGED = "learned"
"""Of the package's folders the one that encodes where no other is named."""
TILES_AT_ONCE = 64
"""Most tiles in one pass: what a large picture needs of memory does not grow with it."""

T = TypeVar("T", bound=np.generic)

_lock = threading.Lock()
_read: dict[Path, "Networks"] = {}


@dataclass(eq=False)
class Networks:
    """Both networks and the interface that they were trained with.

    The methods run them by OpenVINO where it can be had (`semlink.vision.network_engine`).
    """

    interface: Interface
    mapper: SourceMapper
    demapper: SourceDemapper

    def __post_init__(self) -> None:
        """Engines, which convert the networks when they are needed."""
        self._map = NetworkEngine(self.mapper, (CHANNELS, SIDE, SIDE), "probabilities of the source mapper")
        self._demap = NetworkEngine(self.demapper, (TOKENS, BITS), "pixels of the source demapper")

    def start(self) -> None:
        """Makes the engines ready now rather than within the first call."""
        self._map.start()
        self._demap.start()

    def bits(self, tiles: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(B, 32, 32, 3) 8-bit tiles -> (B, 64, 96) bits, equation (1)."""
        return np.concatenate([self._bits(part) for part in _parts(tiles)])

    def tiles(self, bits: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, 64, 96) bits or probabilities in [0, 1] -> (B, 32, 32, 3) pixels within 0..255, unrounded."""
        return np.concatenate([self._tiles(part) for part in _parts(bits)])

    def _bits(self, tiles: NDArray[np.uint8]) -> NDArray[np.bool_]:
        pixels = torch.from_numpy(np.ascontiguousarray(tiles)).movedim(-1, 1).float() / 255
        bits: NDArray[np.bool_] = (self._map(pixels) >= 0.5).numpy()
        return bits

    def _tiles(self, bits: NDArray[np.float32]) -> NDArray[np.float32]:
        pixels = 255 * self._demap(torch.from_numpy(np.ascontiguousarray(bits)))
        tiles: NDArray[np.float32] = pixels.clamp(0, 255).movedim(1, -1).numpy()
        return tiles


def networks(folder: Path) -> Networks:
    """The networks of a folder, whose interface is known to this process from now on.

    Raises:
        WeightsError: a file is missing or is not what it should be, or the two are of different trainings.
    """
    folder = folder.resolve()
    with _lock:
        if folder not in _read:
            _read[folder] = _load(folder)
            know_interface(_read[folder].interface)
        return _read[folder]


def networks_of(interface: Interface) -> Networks | None:
    """The networks that are at hand for an interface: read already, or in the package."""
    with _lock:
        found = [each for each in _read.values() if each.interface.id == interface.id]
    if found:
        return found[0]
    for file in sorted(PRETRAINED.glob(f"*/{FILE}")):
        if load_interface(file.parent).id == interface.id:
            return networks(file.parent)
    return None


def folder_of(weights: Path | None) -> Path:
    """Where the networks to encode with lie: in `weights` if they are there, else in the package."""
    return weights if weights is not None and (weights / FILE).is_file() else PRETRAINED / PACKAGED


def _load(folder: Path) -> Networks:
    try:
        interface = load_interface(folder)
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a mapping
        size = next((name for name in SIZES if name == metadata.get("size")), None)
        if size is None or metadata.get("id") != interface.id.hex():
            raise ValueError(f"{WEIGHTS} does not name this interface and a size")
        mapper, demapper = SourceMapper(size), SourceDemapper(size)
        for name, network in (("mapper", mapper), ("demapper", demapper)):
            start = f"{name}."
            own = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
            network.load_state_dict(own)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WeightsError(
            f"the learned coder's networks can't be read from {folder}: {error}. "
            f"`semlink train-learned-source` makes {FILE} and {WEIGHTS}; name their folder with --weights"
        ) from error
    return Networks(interface, mapper.eval(), demapper.eval())


def _parts(array: NDArray[T]) -> list[NDArray[T]]:
    return [array[start : start + TILES_AT_ONCE] for start in range(0, len(array), TILES_AT_ONCE)]
