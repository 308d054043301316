"""Dialogue of four devices over a delayed link, beside one round of fixed frames; and a device's time per view.

python -m benchmarks.dialogue [CALIBRATION]. Devices and link run in this process, the server in another; each
device's model has one thread. A round is over when every device knows the vote, from the moment that all have
taken their pictures.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.delay import delayed
from benchmarks.processes import running
from benchmarks.tables import show
from device.camera import VIEWPOINTS, take_view
from device.capture import Capture
from device.dialogue import Dialogues
from device.encoder import Encoder
from device.opinion_encoder import OpinionEncoder
from device.sender import Sender
from device.sent import Sent
from device.settings import DeviceSettings
from device.uplink import Credentials, Uplink
from semlink.vision.photos import find_photos

ROUNDS = 5
"""Of each object, under each policy."""
ROUND_TRIP_SECONDS = 0.02
PHOTOS = ("chelsea", "coffee", "astronaut", "rocket", "motorcycle_left", "hubble_deep_field", "retina")
"""Objects: photographs of scikit-image, each from four viewpoints."""
POLICIES = ("all", "ask")
MOST_RATIO = 2.5
"""Of a dialogue's time to that of a round of fixed frames: the bar."""
MOST_TIME = 1.6
"""Of a device's mean time a view to that of the forward pass that attention alone takes: the bar."""
SET, MOST_VIEWS = "imagenet-sample-1000/images", 200
"""Photos for a device's time a view, in the folder data if they are there; how many, spread evenly."""
ALONE = 1 << 20
"""First number of their objects."""
SECONDS = 60.0
"""How long anything may take."""


class Round(NamedTuple):
    """One object, recognised."""

    seconds: float
    pictures: int
    """How many views needed a picture behind their opinion."""
    bits: int
    """Of all frames."""
    device_seconds: tuple[float, ...]
    """Of each view: vision transformer, opinion and stills."""


def run(rounds: int = ROUNDS, calibration: Path | None = None) -> dict[str, Any]:
    """Has four devices look at every object, policy by policy in turns; prints tables.

    Args:
        rounds: of each object, under each policy.
        calibration: of devices and server, such as one for another server, which decides what is asked for; None:
            the one that comes with the package.

    Returns:
        For each policy, and for dialogues with and without pictures: rounds, median `ms`, mean `bits` a view and
        mean `device_ms` a view; and `ratios` of dialogues to rounds of fixed frames, object by object (median).
    """
    views = {path.stem: [take_view(path, viewpoint) for viewpoint in VIEWPOINTS] for path in find_photos(PHOTOS)}
    with (
        running("server", "--threads", 1, *(("--calibration", calibration) if calibration else ())) as (_, where),
        delayed(where["grpc"], ROUND_TRIP_SECONDS / 2) as address,
    ):
        measured = asyncio.run(_measure(address, views, rounds, calibration))
        alone = asyncio.run(_alone(address, calibration))
    fixed = {name: float(np.median([each.seconds for each in measured["all", name]])) for name in views}
    dialogues = [(name, each) for name in views for each in measured["ask", name]]
    kinds = {
        "fixed frames": [each for name in views for each in measured["all", name]],
        "dialogues without pictures": [each for _, each in dialogues if not each.pictures],
        "dialogues with pictures": [each for _, each in dialogues if each.pictures],
    }
    results: dict[str, Any] = {name: _summary(found) for name, found in kinds.items() if found}
    for kind, has_pictures in (("dialogues without pictures", False), ("dialogues with pictures", True)):
        if kind in results:
            ratios = [
                each.seconds / fixed[name] for name, each in dialogues if bool(each.pictures) == has_pictures
            ]
            results[kind]["ratio"] = float(np.median(ratios))
    show(
        f"four devices, {1e3 * ROUND_TRIP_SECONDS:.0f} ms round trip, medians",
        ("rounds", "ms", "× fixed frames", "bits a view", "device ms a view"),
        [
            (
                name, str(each["rounds"]), f"{each['ms']:.0f}", f"{each.get('ratio', 1):.2f}",
                f"{each['bits']:.0f}", f"{each['device_ms']:.1f}",
            )
            for name, each in results.items()
        ],
        f"bar: {MOST_RATIO} × fixed frames",
    )  # fmt: skip
    show(
        f"{alone['views']} views of objects of their own, {alone['pictures']} with a picture, means",
        ("", ""),
        [
            ("bytes sent a view", f"{alone['bytes']:.0f}"),
            ("attention's forward, ms", f"{alone['attention_ms']:.1f}"),
            ("device's time, ms", f"{alone['device_ms']:.1f}"),
            ("× attention's forward", f"{alone['ratio']:.2f}"),
        ],
        f"bar: {MOST_TIME} × attention's forward",
    )
    return results | {"device's time a view": alone}


async def _measure(
    address: str, views: Mapping[str, Sequence[NDArray[np.uint8]]], rounds: int, calibration: Path | None
) -> dict[tuple[str, str], list[Round]]:
    """Rounds by policy and object, after one of each policy that is not counted."""
    measured: dict[tuple[str, str], list[Round]] = {(policy, name): [] for policy in POLICIES for name in views}
    order, numbers = np.random.default_rng(0), itertools.count()
    async with AsyncExitStack() as stack:
        cameras = {
            policy: [_Camera(address, policy, number, calibration) for number in range(4)] for policy in POLICIES
        }
        for camera in itertools.chain.from_iterable(cameras.values()):
            await stack.enter_async_context(camera.uplink)
        for policy in POLICIES:
            await _round(cameras[policy], next(iter(views.values())), next(numbers))
        for _ in range(rounds):
            for place in order.permutation(len(measured)):
                policy, name = list(measured)[place]
                measured[policy, name].append(await _round(cameras[policy], views[name], next(numbers)))
    return measured


async def _round(cameras: Sequence["_Camera"], views: Sequence[NDArray[np.uint8]], number: int) -> Round:
    started = time.perf_counter()
    async with asyncio.timeout(SECONDS):
        looks = (camera.look(view, number, len(views)) for camera, view in zip(cameras, views, strict=True))
        sent = await asyncio.gather(*looks)
    seconds = time.perf_counter() - started
    spent = [_device_ms(capture, each) / 1e3 for capture, each in sent]
    return Round(
        seconds,
        sum(len(each.layers) > 1 for _, each in sent),
        sum(each.uplink_bits for _, each in sent),
        tuple(spent),
    )


async def _alone(address: str, calibration: Path | None) -> dict[str, float]:
    """Time of a device that looks at objects alone, one after the other, and of the attention's forward."""
    folder = Path("data") / SET
    photos = find_photos([str(folder)] if folder.is_dir() else PHOTOS)
    chosen = [photos[place] for place in np.linspace(0, len(photos) - 1, min(MOST_VIEWS, len(photos))).astype(int)]
    fixed, asking = _Camera(address, "all", 0, None), _Camera(address, "ask", 1, calibration)
    attention, spent, pictures, octets = [], [], 0, 0
    async with asking.uplink:
        for number, path in enumerate([chosen[0], *chosen]):
            pixels = take_view(path)
            attention.append(fixed.encoder.encode(pixels, number).attention_ms)
            capture, sent = await asking.look(pixels, ALONE + number, 1)
            spent.append(_device_ms(capture, sent))
            if number:
                pictures, octets = pictures + (len(sent.layers) > 1), octets + sent.uplink_bits // 8
    return {
        "views": len(chosen),
        "pictures": pictures,
        "bytes": octets / len(chosen),
        "attention_ms": float(np.mean(attention[1:])),
        "device_ms": float(np.mean(spent[1:])),
        "ratio": float(np.mean(spent[1:]) / np.mean(attention[1:])),
    }


def _device_ms(capture: Capture, sent: Sent) -> float:
    """Time in the vision transformer and in the coders."""
    coding = sum(layer.view.encode_ms for layer in sent.layers[1:])
    return capture.view.attention_ms + capture.view.encode_ms + coding


class _Camera:
    """A device as its process has it, but for the picture that it is given."""

    def __init__(self, address: str, policy: str, number: int, calibration: Path | None) -> None:
        settings = DeviceSettings.model_validate(
            {
                "to": address, "images": ["chelsea"], "object_id": "unused", "device_id": f"camera-{number}",
                "policy": policy, "threads": 1, "vote_seconds": SECONDS,
                "calibration": calibration if policy == "ask" else None,
            }
        )  # fmt: skip
        self._device_id = f"camera-{number}"
        self.encoder = (Encoder if policy == "all" else OpinionEncoder).of(settings)
        self.uplink = Uplink(address, SECONDS, SECONDS, asyncio.Event(), Credentials())
        self._dialogues = Dialogues(Sender(settings, self.uplink, None), self.uplink, SECONDS)

    async def look(self, pixels: NDArray[np.uint8], number: int, views: int) -> tuple[Capture, Sent]:
        """Encodes one of so many views, and sends it until the vote is known."""
        view = await asyncio.to_thread(self.encoder.encode, pixels, number)
        name, sent = f"object-{number}", Sent()
        capture = Capture(number, name, self._device_id, views, f"{name}-{self._device_id}", name, None, view)
        await self._dialogues.begin(capture, sent)
        await self._dialogues.finish(capture, sent)
        if not sent.has_vote:
            raise TimeoutError(f"{name}: no vote within {SECONDS:.0f} s")
        return capture, sent


def _summary(rounds: Sequence[Round]) -> dict[str, float]:
    return {
        "rounds": len(rounds),
        "ms": 1e3 * float(np.median([each.seconds for each in rounds])),
        "bits": float(np.mean([each.bits for each in rounds])) / 4,
        "device_ms": 1e3 * float(np.mean([each.device_seconds for each in rounds])),
    }


if __name__ == "__main__":
    run(calibration=Path(sys.argv[1]) if sys.argv[1:] else None)
