"""Token cache: tokens, attention and pixels of pictures, computed once and kept on disk (memory-mapped).

A vision transformer costs several times what a token decoder does, and the decoder learns from each picture many
times. Tokens are kept in float16, 75 kB a picture, pixels in 8 bits, 150 kB.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress
from timm.models import VisionTransformer

from experiments.data.image_sets import Example, ImageSet
from experiments.training.checkpoint import device_and_precision
from semlink.vision.images import IMAGE_SIZE, model_pixels, open_image
from semlink.vision.vit import TOKEN_BLOCKS, normalise, tokens_and_attention

log = structlog.get_logger(__name__)

SMALLEST_CROP = 0.3
"""Share of the photo's short side, squared, that a random crop has at least."""
BATCH = 32
"""Pictures computed at once, after which the cache notes how far it is."""
DONE = "done.json"


@dataclass(frozen=True, eq=False)
class CachedTokens:
    """What a vision transformer makes of pictures, and these; the arrays are memory-mapped and read only.

    Attributes:
        tokens: (n, N, D) float16 patch tokens, as a device sends them.
        attention: (n, N) float32 attention of the class token.
        pixels: (n, H, W, 3) uint8 pixels.
        labels: (n,) int64 classes of the pictures.
    """

    tokens: NDArray[np.float16]
    attention: NDArray[np.float32]
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.labels)


def random_crop(photo: Image.Image, generator: np.random.Generator) -> NDArray[np.uint8]:
    """A random square of a photo, half of them mirrored: (224, 224, 3)."""
    side = min(photo.size) * math.sqrt(generator.uniform(SMALLEST_CROP, 1))
    left, top = generator.uniform(0, photo.width - side), generator.uniform(0, photo.height - side)
    box = (left, top, left + side, top + side)
    pixels = np.asarray(photo.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC, box=box))
    return pixels[:, ::-1] if generator.random() < 0.5 else pixels


def cached_tokens(
    model: VisionTransformer, data: ImageSet, crops: int, seed: int, folder: Path, progress: Progress
) -> CachedTokens:
    """Tokens, attention and pixels of each picture's middle and of some random crops of it.

    What is on disk already is not computed again, and an interrupted cache goes on where it stopped. Another
    model, other pictures, crops or seeds have another place under `folder`.

    Args:
        model: as `semlink.vision.vit.load_vit` gives it.
        data: the pictures.
        crops: views of each picture; the first is its middle, as models are evaluated, the others are random.
        seed: of the random crops.
        folder: gets a folder a cache.
        progress: progress bar.
    """
    key = "\0".join((data.identity, model.origin.weights.sha256, str(TOKEN_BLOCKS), str(crops), str(seed)))
    place = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    count = len(data.examples) * crops
    patches, width = model.patch_embed.num_patches, model.embed_dim
    arrays = (
        _mapped(place / "tokens.npy", np.float16, (count, patches, width)),
        _mapped(place / "attention.npy", np.float32, (count, patches)),
        _mapped(place / "pixels.npy", np.uint8, (count, IMAGE_SIZE, IMAGE_SIZE, 3)),
    )
    noted = place / DONE
    done = json.loads(noted.read_text(encoding="utf-8"))["pictures"] if noted.is_file() else 0
    if done:
        log.info("tokens are there already", pictures=done, of=count, cache=str(place))
    where, precision = device_and_precision()
    model.to(where)
    task = progress.add_task("tokens", total=count, completed=done)
    for start in range(done, count, BATCH):
        stop = min(start + BATCH, count)
        pixels = np.stack([_view(data.examples, number, crops, seed) for number in range(start, stop)])
        with precision:
            tokens, attention = tokens_and_attention(model, normalise(model, pixels).to(where))
        for array, values in zip(arrays, (tokens.half().cpu(), attention.float().cpu(), pixels), strict=True):
            array[start:stop] = values
            array.flush()
        noted.write_text(json.dumps({"pictures": stop}), encoding="utf-8")
        progress.update(task, completed=stop)
    labels = np.repeat([example.label for example in data.examples], crops)
    return CachedTokens(*arrays, labels=labels.astype(np.int64))


def _mapped(path: Path, kind: type, shape: tuple[int, ...]) -> np.memmap:
    """An array on disk, made where there is none of this shape."""
    return np.lib.format.open_memmap(path, "r+" if path.is_file() else "w+", dtype=kind, shape=shape)


def _view(examples: Sequence[Example], number: int, crops: int, seed: int) -> NDArray[np.uint8]:
    index, crop = divmod(number, crops)
    photo = open_image(examples[index].path)
    if crop == 0:
        return model_pixels(photo)
    return random_crop(photo, np.random.default_rng((seed, index, crop)))


def batch_of(cache: CachedTokens, chosen: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, N, D) float32 tokens and (B, 3, H, W) pixels in [0, 1] of some pictures of a cache."""
    pixels = torch.from_numpy(cache.pixels[chosen]).permute(0, 3, 1, 2).float().div_(255)
    return torch.from_numpy(cache.tokens[chosen]).float(), pixels
