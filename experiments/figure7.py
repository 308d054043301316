"""Counterpart of IAQ, Fig. 7: what the device attends to, the bits it buys, and what the server receives.

Without an image set, of scikit-image's photographs, which anyone may show. Of an image set, whose terms are
narrower, it shows what came through the link and not the images themselves; the picture says whose they are.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from experiments.accuracy import save
from experiments.data.image_sets import load_image_set
from experiments.evaluation.coders import send_frame
from experiments.study import Measured
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.source.iaq import coder as iaq
from semlink.vision.images import model_pixels, open_image
from semlink.vision.photos import find_photos
from semlink.vision.vit import class_attention, load_vit, normalise
from semlink.vision.weights import DEVICE_MODEL

PHOTOGRAPHS = ("chelsea", "coffee", "astronaut", "rocket")
IMAGES, RHO, BERS, SEED = 4, 0.125, (0.0, 0.05), 0
CREDITS = {
    "imagenet-sample-1000": "from images of ImageNet (Deng et al., CVPR 2009), for non-commercial research",
    "eth80": "from images of ETH-80 (Leibe and Schiele, CVPR 2003), for research",
    "cifar10": "from images of CIFAR-10 (Krizhevsky, 2009), for research",
}


def main(data: Measured | None, out: Path) -> None:
    """Draws a row for each of a few images; of an image set they are spread evenly over the classes."""
    weights = None
    if data is None:
        name, credit, paths = "photographs", "", find_photos(PHOTOGRAPHS)
    else:
        study = data.study
        examples = load_image_set(data.data).where(study.only)[0].examples
        spread = (len(examples) * (np.arange(IMAGES) + 0.5) / IMAGES).astype(int)
        name, weights, paths = data.name, study.weights, [examples[index].path for index in spread]
        credit = CREDITS[name]
    titles = ["attention", "bits of each patch, 0 to 8", *(f"received, μ = {ber:g}" for ber in BERS)]
    if data is None:
        titles.insert(0, "image")
    model = load_vit(DEVICE_MODEL, weights=weights)
    figure, grid = plt.subplots(len(paths), len(titles), figsize=(2.5 * len(titles), 2.6 * len(paths)))
    for index, (row, path) in enumerate(zip(grid, paths, strict=True)):
        pixels = model_pixels(open_image(path))
        with torch.inference_mode():
            attention = class_attention(model, normalise(model, pixels[None]))[0].numpy()
        bits = iaq.encode(pixels, attention, rho=RHO).frame.bits
        *image, attended, bought = row[: -len(BERS)]
        for axes in image:
            axes.imshow(pixels)
        attended.imshow(attention.reshape(14, 14), cmap="inferno")
        bought.imshow(bits.reshape(14, 14), vmin=0, vmax=8, cmap="viridis")
        for axes, ber in zip(row[-len(BERS) :], BERS, strict=True):
            generator = np.random.default_rng((SEED, index))
            received = send_frame(pixels, attention, BinarySymmetricChannel(ber=ber), generator, rho=RHO).pixels
            axes.imshow(np.rint(received).astype(np.uint8))
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=10)
    for axes in grid.flat:
        axes.set_axis_off()
    figure.suptitle(f"{name}, ρ = {RHO:g}, γ = 1, seed {SEED}\n{credit}")
    save(figure, out / f"figure7-{name}.png")
