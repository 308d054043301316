"""Uncoded 64-QAM over MIMO-OFDM, one frame, bits in and bits out: beside the obvious loop over OFDM
symbols, beside sionna, and beside the server's forward pass.

python -m benchmarks.ofdm
"""

from collections.abc import Callable

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from sionna.phy.channel import ApplyOFDMChannel
from sionna.phy.mapping import Demapper, Mapper

from benchmarks.tables import show
from benchmarks.timing import take_turns
from semlink.access.mapping import map_subcarriers
from semlink.channel.layout import BlockLayout
from semlink.channel.ofdm import Numerology, draw_channel, subchannel_gains
from semlink.channel.qam import awgn_bit_error_rate, constellation
from semlink.channel.uncoded import send_over_matrices, send_over_subchannels

ORDER, WIDTH = 64, 6
SNR_DB = 20
SEED = 0
PATCHES = 196
PATCH_BITS = 768 * 2  # ρ = 0.25, the same for every patch
ROUNDS = 40
INTERVAL = 1000
"""OFDM symbols for which the channel stays: longer than the frame."""

SUBCHANNELS = "subchannel by subchannel (ours)"
MATRICES = "through all matrices (ours)"
LOOP = "loop over OFDM symbols"
SIONNA = "sionna"
FORWARD = "DeiT-Small, one image"

NUMEROLOGY = Numerology()
NOISE_POWER = NUMEROLOGY.noise_power(SNR_DB)


def chains(channel: NDArray[np.complex128]) -> dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]:
    """Ways to send the bits of one frame over the same channel, its singular value decomposition included."""
    generator = np.random.default_rng(SEED)
    scores = generator.random(PATCHES)

    def layout(gains: NDArray[np.float64]) -> BlockLayout:
        return BlockLayout(map_subcarriers(scores, gains), np.full(PATCHES, PATCH_BITS), ORDER)

    def by_subchannels(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
        gains = subchannel_gains(channel)
        plan = layout(gains)
        return plan.demodulate(send_over_subchannels(bits, plan, gains, 1, NOISE_POWER, generator))

    def by_matrices(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
        plan = layout(subchannel_gains(channel))
        received = send_over_matrices(
            bits,
            plan,
            lambda interval: channel,
            channel,
            1,
            NOISE_POWER,
            generator,
            interval=NUMEROLOGY.coherence_symbols,
        )
        return plan.demodulate(received)

    points = constellation(ORDER)
    labels = np.unpackbits(np.arange(ORDER, dtype=np.uint8)[:, None], axis=1)[:, 8 - WIDTH :]

    def by_loop(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
        left, gains, right = np.linalg.svd(channel)
        received = []
        for of_symbol in bits.reshape(-1, NUMEROLOGY.subchannels, WIDTH):
            symbols = points[of_symbol @ (1 << np.arange(WIDTH)[::-1])].reshape(gains.shape)
            sent = right.conj().swapaxes(1, 2) @ symbols[:, :, None]
            noise = generator.standard_normal(sent.shape) + 1j * generator.standard_normal(sent.shape)
            arrived = channel @ sent + np.sqrt(NOISE_POWER / 2) * noise
            equalised = (left.conj().swapaxes(1, 2) @ arrived)[:, :, 0] / gains
            received.append(labels[np.abs(equalised.reshape(-1, 1) - points).argmin(axis=1)])
        return np.concatenate(received).ravel()

    mapper = Mapper("qam", WIDTH, device="cpu")
    demapper = Demapper("maxlog", "qam", WIDTH, hard_out=True, device="cpu")
    apply_channel = ApplyOFDMChannel(device="cpu")

    def by_sionna(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
        matrices = torch.from_numpy(channel).to(torch.complex64)
        left, gains, right = torch.linalg.svd(matrices)
        symbols = mapper(torch.from_numpy(bits).float().reshape(1, -1)).reshape(-1, *gains.shape)
        sent = torch.einsum("fst,nfs->tnf", right.conj(), symbols)
        held = matrices.permute(1, 2, 0)[:, :, None].expand(-1, -1, sent.shape[1], -1)
        arrived = apply_channel(sent[None, None], held[None, None, :, None], NOISE_POWER)[0, 0]
        equalised = torch.einsum("frs,rnf->nfs", left.conj(), arrived) / gains
        variance = (NOISE_POWER / gains**2).expand_as(equalised)
        return demapper(equalised.reshape(1, -1), variance.reshape(1, -1)).numpy().astype(np.uint8).ravel()

    return {SUBCHANNELS: by_subchannels, MATRICES: by_matrices, LOOP: by_loop, SIONNA: by_sionna}


def run(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Times all on one thread each, and prints a table.

    Returns:
        For each way: `milliseconds` (median of one frame), `times_as_long` as our quickest takes, and for the
        chains `flip_share`, the share of bits that arrive wrong.
    """
    channel = draw_channel(NUMEROLOGY, np.random.default_rng(SEED))
    bits = np.random.default_rng(1).integers(0, 2, PATCHES * PATCH_BITS, dtype=np.uint8)
    flips: dict[str, list[float]] = {}

    def counting(name: str, send: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Callable[[], None]:
        flips[name] = []
        return lambda: flips[name].append(float(np.mean(send(bits) != bits)))

    model = timm.create_model("deit_small_patch16_224").eval()  # untrained: as fast as trained
    image = torch.zeros(1, 3, 224, 224)

    def forward() -> None:
        with torch.inference_mode():
            model(image)

    torch.manual_seed(SEED)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ways = {name: counting(name, send) for name, send in chains(channel).items()}
    seconds = take_turns({**ways, FORWARD: forward}, rounds)
    torch.set_num_threads(threads)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    measured = {
        name: {"milliseconds": 1000 * median, "times_as_long": median / medians[SUBCHANNELS]}
        for name, median in medians.items()
    }
    expected = float(awgn_bit_error_rate(ORDER, subchannel_gains(channel) ** 2 / NOISE_POWER).mean())
    for name, shares in flips.items():
        measured[name]["flip_share"] = float(np.mean(shares))
        # All bits of a symbol may flip together, at worst.
        spread = (WIDTH * expected * (1 - expected) / (bits.size * len(shares))) ** 0.5
        if abs(measured[name]["flip_share"] - expected) > 5 * spread:
            raise AssertionError(
                f"{name} flips {measured[name]['flip_share']:.5f} of all bits, not {expected:.5f}"
            )
    show(
        f"{PATCHES * PATCH_BITS} bits, {ORDER}-QAM, 784 subcarriers x 4 streams, {SNR_DB} dB, median of {rounds}",
        ("ms", "× ours", "share flipped"),
        [
            (
                name,
                f"{numbers['milliseconds']:.1f}",
                f"{numbers['times_as_long']:.1f}",
                f"{numbers['flip_share']:.5f}" if "flip_share" in numbers else "",
            )
            for name, numbers in measured.items()
        ],
    )
    return measured


if __name__ == "__main__":
    run()
