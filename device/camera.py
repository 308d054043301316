"""Camera: a photograph, or one of four views of it that stand in for four cameras around an object."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from semlink.vision.images import IMAGE_SIZE, model_pixels, open_image


@dataclass(frozen=True)
class Viewpoint:
    """How one camera sees the photograph.

    Attributes:
        centre: middle of the crop, as shares of the width and the height.
        scale: side of the crop over the photograph's short side.
        rotation: degrees, anticlockwise.
        exposure: factor of the brightness.
    """

    centre: tuple[float, float]
    scale: float
    rotation: float
    exposure: float


VIEWPOINTS = (
    Viewpoint(centre=(0.50, 0.50), scale=1.00, rotation=0, exposure=1.00),
    Viewpoint(centre=(0.44, 0.48), scale=0.85, rotation=-8, exposure=0.75),
    Viewpoint(centre=(0.56, 0.52), scale=0.90, rotation=6, exposure=1.30),
    Viewpoint(centre=(0.50, 0.47), scale=0.70, rotation=12, exposure=1.10),
)


def take_view(picture: Path | bytes | Image.Image, viewpoint: Viewpoint | None = None) -> NDArray[np.uint8]:
    """(224, 224, 3) 8-bit pixels of a picture, or of what `viewpoint` shows of it.

    Args:
        picture: a file, the bytes of one, or an upright RGB picture.
        viewpoint: None for the whole picture.

    Raises:
        ImageError: no such picture, or too large a one.
    """
    photo = picture if isinstance(picture, Image.Image) else open_image(picture)
    if viewpoint is not None:
        photo = _seen_from(photo, viewpoint)
    return model_pixels(photo, IMAGE_SIZE)


def _seen_from(photo: Image.Image, viewpoint: Viewpoint) -> Image.Image:
    side = max(round(viewpoint.scale * min(photo.size)), 1)
    corner = np.rint(np.multiply(viewpoint.centre, photo.size) - side / 2).astype(int)
    # The crop stays within the photograph; what a rotation turns in from beyond its edge is black.
    left, top = np.clip(corner, 0, np.subtract(photo.size, side)).tolist()
    turned = photo.rotate(viewpoint.rotation, Image.Resampling.BICUBIC, center=(left + side / 2, top + side / 2))
    cropped = turned.crop((left, top, left + side, top + side))
    return ImageEnhance.Brightness(cropped).enhance(viewpoint.exposure)
