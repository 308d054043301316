"""Learned link: source mapper, channel mapper, air, channel demapper and source demapper, for pictures of 32 x 32.

Networks are found by their cards, in any folder below the one that is named: `access.json` says variant, channel
and interface, and the source is the one with that interface. What carries the bits runs by OpenVINO, as in the
channel emulator.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.coded_link import Air, Kind
from semlink.access.learned.engine import LearnedAccess
from semlink.source.learned.interface import FILE, PRETRAINED, load_interface
from semlink.source.learned.networks import Networks, networks
from semlink.vision.weights import WeightsError

VARIANTS = ("full", "split", "no-ian", "no-interface-attention")
"""Of the channel networks; `split` is Split DeepJSCC's kind, and has a source of its own."""
CARD, SOURCE_CARD = "access.json", "source.json"
AT_ONCE = 250
"""Pictures in one pass."""


@dataclass(frozen=True, eq=False)
class LearnedLink:
    """Trained networks for one kind of channel.

    Attributes:
        source: mapper and demapper of pictures.
        access: folder of mapper and demapper of bits.
        card: of the latter.
        source_card: of the former; empty where there is none.
    """

    source: Networks
    access: Path
    card: dict[str, Any]
    source_card: dict[str, Any]

    @property
    def identity(self) -> str:
        """Of the weights: interface, and when the channel networks were trained."""
        return f"{self.card['interface']} {self.card['at']}"

    def received(self, bits: NDArray[np.bool_], cbr: str, met: Air) -> NDArray[np.uint8]:
        """(B, 32, 32, 3) pictures that are shown of (B, 64, 96) bits sent over the air.

        Args:
            bits: of the source.
            cbr: channel bandwidth ratio, with as many channel uses as `met` has.
            met: the channel of each picture.
        """
        link = LearnedAccess(self.access, cbr)
        shown = []
        for start in range(0, len(bits), AT_ONCE):
            here = slice(start, start + AT_ONCE)
            part = met.of(here)
            symbols = link.map(bits[here], met.snr_db)
            arrived = link.demap(part.equalised(symbols), np.abs(part.gain), met.snr_db)
            shown.append(self.source.tiles(arrived.astype(np.float32)).round().astype(np.uint8))
        return np.concatenate(shown)


def find_links(folder: Path) -> dict[tuple[str, Kind], LearnedLink]:
    """The links of a folder, by variant and kind of channel; those that are not there are left out.

    Raises:
        WeightsError: two folders have the same variant and channel, or the source of one is not there.
    """
    sources = {
        load_interface(file.parent).id.hex(): file.parent
        for root in (PRETRAINED, folder)
        for file in sorted(root.rglob(FILE))
    }
    links: dict[tuple[str, Kind], LearnedLink] = {}
    for file in sorted(folder.rglob(CARD)):
        card = json.loads(file.read_text(encoding="utf-8"))
        key = (card["variant"], card["channel"])
        if key in links:
            raise WeightsError(
                f"{links[key].access} and {file.parent} are both {card['variant']} for {card['channel']}"
            )
        if card["interface"] not in sources:
            raise WeightsError(f"{file}: no folder below {folder} has the source of interface {card['interface']}")
        origin = sources[card["interface"]]
        described = origin / SOURCE_CARD
        source_card = json.loads(described.read_text(encoding="utf-8")) if described.is_file() else {}
        links[key] = LearnedLink(networks(origin), file.parent, card, source_card)
    return links
