import dataclasses

import numpy as np
import pytest
from PIL import Image

from device.capture import Encoded
from device.picture import CAPTION_HEIGHT, MARGIN, draw_view
from semlink.source.iaq import coder as iaq

SIDE = 224
RNG = np.random.default_rng(7)
PIXELS = RNG.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
PEAKED = RNG.dirichlet(np.full(196, 0.3)).astype(np.float32)


def encoded(attention=PEAKED, rho=0.25):
    frame = iaq.encode(PIXELS, attention, rho=rho).frame
    return Encoded(frame.to_bytes(), attention, PIXELS, attention_ms=1.0, encode_ms=1.0)


def panels(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        sheet = np.asarray(picture.convert("RGB"))
    lefts = [MARGIN + number * (SIDE + MARGIN) for number in range(4)]
    return sheet, [sheet[CAPTION_HEIGHT : CAPTION_HEIGHT + SIDE, left : left + SIDE] for left in lefts]


def test_four_panels_side_by_side(tmp_path):
    view, path = encoded(), tmp_path / "new" / "folder" / "view.png"
    draw_view(path, view, view.frame, "tabby")
    sheet, (photo, attention, bits, received) = panels(path)
    assert sheet.shape == (SIDE + CAPTION_HEIGHT + MARGIN, 4 * (SIDE + MARGIN) + MARGIN, 3)
    np.testing.assert_array_equal(photo, PIXELS)
    np.testing.assert_array_equal(received, np.rint(iaq.decode(view.frame)).astype(np.uint8))
    for first, second in ((photo, attention), (attention, bits), (bits, received)):
        assert (first != second).any()
    captions = sheet[:CAPTION_HEIGHT]
    assert (captions != 255).any()
    assert (sheet[CAPTION_HEIGHT:, :MARGIN] == 255).all()


def test_the_last_panel_is_what_was_received_not_what_was_sent(tmp_path):
    view = encoded()
    damaged = bytearray(view.frame.payload)
    damaged[::3] = bytes(255 - byte for byte in damaged[::3])
    received = dataclasses.replace(view.frame, payload=bytes(damaged))
    draw_view(tmp_path / "view.png", view, received, "noise")
    _, (_, _, _, shown) = panels(tmp_path / "view.png")
    assert np.abs(shown.astype(float) - iaq.decode(view.frame)).mean() > 10
    np.testing.assert_array_equal(shown, np.clip(np.rint(iaq.decode(received)), 0, 255))


@pytest.mark.parametrize("rho", [0, 0.001, 0.25, 1])
@pytest.mark.parametrize(
    "attention", [PEAKED, np.full(196, 1 / 196, np.float32), np.eye(1, 196, dtype=np.float32)[0]]
)
def test_any_bits_and_any_attention_can_be_drawn(tmp_path, attention, rho):
    view = encoded(attention, rho)
    draw_view(tmp_path / "view.png", view, view.frame, "an answer much too long for its panel, " * 4)
    sheet, _ = panels(tmp_path / "view.png")
    assert sheet.shape == (SIDE + CAPTION_HEIGHT + MARGIN, 4 * (SIDE + MARGIN) + MARGIN, 3)


def test_more_bits_are_lighter(tmp_path):
    view = encoded()
    draw_view(tmp_path / "view.png", view, view.frame, "tabby")
    _, (_, attention, bits, _) = panels(tmp_path / "view.png")
    lightness = bits.reshape(14, 16, 14, 16, 3)[:, :2, :, :2].mean(axis=(1, 3, 4)).ravel()  # beside the numbers
    by_bits = [lightness[view.frame.bits == count].mean() for count in np.unique(view.frame.bits)]
    assert len(by_bits) > 2
    assert by_bits == sorted(by_bits)
    most = int(view.attention.argmax())
    patches = attention.reshape(14, 16, 14, 16, 3).mean(axis=(1, 3, 4)).ravel()
    assert patches[most] > np.median(patches)
