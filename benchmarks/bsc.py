"""Binary symmetric channel on one frame, bytes in and bytes out: geometric skips beside the obvious way, a random
number for every bit, and beside sionna's BinarySymmetricChannel.

python -m benchmarks.bsc
"""

from collections.abc import Callable

import numpy as np
import torch
from sionna.phy.channel import BinarySymmetricChannel as SionnaChannel

from benchmarks.tables import show
from benchmarks.timing import take_turns
from semlink.channel.base import RawBits
from semlink.channel.bsc import BinarySymmetricChannel

BER = 0.01
SEED = 0
PAYLOAD_BITS = 224 * 224 * 3 * 8 // 4  # ρ = 0.25
ROUNDS = 40
FRAMES_PER_TURN = 5

SKIPS = "geometric skips (ours)"
PER_BIT = "one float64 draw per bit"
SIONNA = "sionna BinarySymmetricChannel"


def channels(seed: int = SEED) -> dict[str, Callable[[bytes], bytes]]:
    """The three ways to send bytes through the same channel."""
    generator = np.random.default_rng(seed)
    bsc, sionna = BinarySymmetricChannel(ber=BER), SionnaChannel(device="cpu")
    torch.manual_seed(seed)

    def by_skips(payload: bytes) -> bytes:
        sent = RawBits(payload)
        return bsc.transmit(sent, None, None, generator).received(sent)

    def by_draw_per_bit(payload: bytes) -> bytes:
        bits = np.unpackbits(np.frombuffer(payload, np.uint8))
        bits ^= generator.random(bits.size) < BER
        return np.packbits(bits).tobytes()

    def by_sionna(payload: bytes) -> bytes:
        # As floats: version 2.2 inverts no bits given as integers.
        bits = torch.from_numpy(np.unpackbits(np.frombuffer(payload, np.uint8))).float()
        return np.packbits(sionna(bits, BER).numpy() > 0.5).tobytes()

    return {SKIPS: by_skips, PER_BIT: by_draw_per_bit, SIONNA: by_sionna}


def run(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Times the three and prints a table.

    Returns:
        For each way: `milliseconds` (median of one frame), `mbit_per_s`, `times_as_long` as ours takes, and
        `flip_share`, the share of bits that it inverted.
    """
    payload = np.random.default_rng(1).bytes(PAYLOAD_BITS // 8)
    received: dict[str, list[bytes]] = {SKIPS: [], PER_BIT: [], SIONNA: []}

    def keeping(name: str, send: Callable[[bytes], bytes]) -> Callable[[], None]:
        return lambda: received[name].append(send(payload))

    ways = {name: keeping(name, send) for name, send in channels().items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one core each: NumPy takes no more
    seconds = take_turns(ways, rounds, FRAMES_PER_TURN)
    torch.set_num_threads(threads)
    sent = np.frombuffer(payload, np.uint8)
    flips = {
        name: sum(int(np.bitwise_count(sent ^ np.frombuffer(data, np.uint8)).sum()) for data in frames)
        for name, frames in received.items()
    }
    exposed = PAYLOAD_BITS * len(received[SKIPS])
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    measured = {
        name: {
            "milliseconds": 1000 * median,
            "mbit_per_s": PAYLOAD_BITS / median / 1e6,
            "times_as_long": median / medians[SKIPS],
            "flip_share": flips[name] / exposed,
        }
        for name, median in medians.items()
    }
    spread = (BER * (1 - BER) / exposed) ** 0.5
    for name, numbers in measured.items():
        if abs(numbers["flip_share"] - BER) > 5 * spread:
            raise AssertionError(f"{name} flips {numbers['flip_share']:.5f} of all bits, not {BER}")
    show(
        f"BSC, μ = {BER}, {PAYLOAD_BITS} bits, bytes to bytes, median of {rounds * FRAMES_PER_TURN} frames",
        ("ms", "Mbit/s", "× ours", "share flipped"),
        [
            (
                name,
                f"{numbers['milliseconds']:.3f}",
                f"{numbers['mbit_per_s']:.0f}",
                f"{numbers['times_as_long']:.1f}",
                f"{numbers['flip_share']:.5f}",
            )
            for name, numbers in measured.items()
        ],
    )
    return measured


if __name__ == "__main__":
    run()
