"""Frames from the command line: `semlink encode` and `semlink decode`."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from cli.from_settings import Settings, WeightsFolder, explained, takes
from device.settings import EncoderSettings
from semlink.frame import FrameError
from semlink.vision.photos import find_photos
from semlink.vision.weights import DEVICE_MODEL, WeightsError

ALLOCATION = Settings(
    EncoderSettings, ("method", "rho", "total_bits", "gamma", "design_ber", "threshold"), "Encoder"
)


@takes(encoder=ALLOCATION)
def encode(
    *,
    photo: Annotated[str, typer.Argument(help="A picture file, or the name of one of scikit-image's.")],
    frame: Annotated[Path, typer.Argument(help="The frame file to write.")],
    encoder: EncoderSettings,
    weights: WeightsFolder = None,
) -> None:
    """Encode a photo into a frame, as a device does."""
    from semlink.source.iaq import coder as iaq
    from semlink.vision.images import model_pixels, open_image
    from semlink.vision.vit import class_attention, load_vit, normalise

    with explained(WeightsError, ValueError, OSError):
        pixels = model_pixels(open_image(find_photos([photo])[0]))
        model = load_vit(DEVICE_MODEL, weights=weights)
        attention = class_attention(model, normalise(model, pixels[None]))[0].numpy()
        encoded = iaq.encode(pixels, attention, **encoder.allocation).frame
        frame.parent.mkdir(parents=True, exist_ok=True)
        frame.write_bytes(encoded.to_bytes())
    typer.echo(
        f"{frame}: {encoded.header_bits} header bits, {encoded.payload_bits} payload bits, "
        f"ρ = {encoded.rho:.4f}, true ratio {encoded.true_ratio:.4f}"
    )


def decode(
    frame: Annotated[Path, typer.Argument(help="A frame file.")],
    picture: Annotated[Path, typer.Argument(help="The PNG to write.")],
) -> None:
    """Decode a frame into a picture, as the server sees it."""
    from PIL import Image

    from semlink.source.registry import decode as decode_frame
    from semlink.source.registry import read_frame

    with explained(FrameError, OSError):
        pixels = np.rint(decode_frame(read_frame(frame.read_bytes()))).astype(np.uint8)
        picture.parent.mkdir(parents=True, exist_ok=True)
        # A grey picture has no third axis for Pillow.
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(picture, format="PNG")
    typer.echo(f"{picture}: {pixels.shape[1]} x {pixels.shape[0]} pixels")
