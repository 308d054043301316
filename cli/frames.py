"""Frame files from the command line: `semlink encode` and `semlink decode`."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from cli.from_settings import Settings, WeightsFolder, explained, takes
from device.encoding import EncoderSettings, source_fields
from semlink.frame import MAX_FRAME_BYTES, Frame, FrameError
from semlink.source.registry import coder_of, read_frame
from semlink.vision.photos import find_photos
from semlink.vision.weights import WeightsError

ENCODER = Settings(EncoderSettings, tuple(source_fields()), "Encoder")


@takes(encoder=ENCODER)
def encode(
    *,
    photo: Annotated[str, typer.Argument(help="A picture file, or the name of one of scikit-image's.")],
    frame: Annotated[Path, typer.Argument(help="The frame file to write.")],
    encoder: EncoderSettings,
    weights: WeightsFolder = None,
) -> None:
    """Encode a photo into a frame, as a device does."""
    from device.encoder import Encoder
    from semlink.vision.images import model_pixels, open_image

    with explained(WeightsError, ValueError, OSError):
        pixels = model_pixels(open_image(find_photos([photo])[0]))
        with_torch = Encoder(encoder, device_id="", weights=weights, engine="torch")
        encoded = with_torch.encode(pixels, 0).frame
        frame.parent.mkdir(parents=True, exist_ok=True)
        frame.write_bytes(encoded.to_bytes())
    typer.echo(
        f"{frame}: {encoded.header_bits} header bits, {encoded.payload_bits} payload bits, "
        f"ρ = {encoded.rho:.4f}, true ratio {encoded.true_ratio:.4f}"
    )


LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "BMP": {}, "PPM": {}}
"""Formats in which a picture is written as it was received, and Pillow's options for that."""


def decode(
    frame: Annotated[Path, typer.Argument(help="A frame file.")],
    picture: Annotated[
        Path,
        typer.Argument(
            help="The picture to write, in the format of its suffix: .png (also without a suffix), .webp, .tiff, "
            ".bmp or .ppm, none of which loses anything."
        ),
    ],
    weights: WeightsFolder = None,
) -> None:
    """Decode a frame into a picture, as the server sees it."""
    from PIL import Image

    with explained(FrameError, ValueError, WeightsError, OSError):
        kind = _picture_format(picture)
        pixels = np.rint(decoded(read_frame_file(frame), weights)).astype(np.uint8)
        picture.parent.mkdir(parents=True, exist_ok=True)
        # A grey picture has no third axis for Pillow.
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        image.save(picture, format=kind, **LOSSLESS[kind])
    typer.echo(f"{picture}: {pixels.shape[1]} x {pixels.shape[0]} pixels")


def read_frame_file(path: Path) -> Frame:
    """The frame in a file.

    Raises:
        OSError: the file cannot be read.
        FrameError: it is no frame.
    """
    return read_frame(read_at_most(path, MAX_FRAME_BYTES + 1), most_bytes=MAX_FRAME_BYTES)


def decoded(frame: Frame, weights: Path | None) -> NDArray[np.float64]:
    """(H, W, C) pixels of a frame within 0..255, by its coder's models.

    Raises:
        FrameError: it is for other models.
        WeightsError: the coder's models are missing.
    """
    coder = coder_of(frame)
    coder.prepare(weights)
    return coder.decode(frame)


def read_at_most(path: Path, most_bytes: int) -> bytes:
    """The beginning of a file, of whatever length it is."""
    with path.open("rb") as file:
        return file.read(most_bytes)


def _picture_format(path: Path) -> str:
    """Pillow's name of the format that a suffix stands for; ValueError unless it keeps every pixel."""
    from PIL import Image

    suffix = path.suffix.lower()
    found = Image.registered_extensions().get(suffix) if suffix else "PNG"
    if found in LOSSLESS:
        return found
    why = f"{found} would not keep the picture as it was received" if found else f"{suffix} is no picture format"
    raise ValueError(f"{path}: {why}; use one of .png, .webp, .tiff, .bmp, .ppm")
