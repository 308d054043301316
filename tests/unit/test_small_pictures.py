"""Bare files of small pictures, the messages that carry them, and the table of what settings cost and show."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.metrics import mean_squared_error

from experiments.evaluation.bare_files import BEST_QUALITY, CODECS, BareFileError, bare, read, rebuilt, write
from experiments.evaluation.small_pictures import (
    COLOUR,
    COLOUR_BITS,
    END_BITS,
    KIND_BITS,
    MEAN_COLOUR,
    NOTHING,
    SETTINGS,
    SIDE,
    SIDES,
    PictureTable,
    load_pictures,
    measure_pictures,
    pack,
    save_pictures,
    shown_by,
    squared_error,
    unpack,
)


def picture(seed: int, side: int = SIDE) -> np.ndarray:
    """A smooth picture with an edge and some noise."""
    generator = np.random.default_rng(seed)
    across, down = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    waves = generator.normal(0, 4, (3, 2))
    values = [127 + 100 * np.sin(right * across + below * down) for right, below in waves]
    values[0] += 60 * (across > generator.random())
    noise = generator.normal(0, generator.uniform(0, 20), (side, side, 3))
    return np.clip(np.stack(values, axis=-1) + noise, 0, 255).astype(np.uint8)


class TestBareFiles:
    @given(
        st.integers(0, 2**32),
        st.sampled_from(sorted(CODECS)),
        st.sampled_from(SIDES),
        st.integers(0, BEST_QUALITY),
    )
    @settings(max_examples=60, deadline=None)
    def test_are_rebuilt_with_the_same_pixels(self, seed, codec, side, quality):
        file = write(picture(seed, side), codec, quality)
        sent = bare(file, codec, side)
        np.testing.assert_array_equal(read(rebuilt(sent, codec, side)), read(file))
        # The boxes of an AVIF file alone are more than 200 bytes; WebP leaves out 20 of RIFF and 8 of the frame.
        assert len(file) - len(sent) > 200 if codec == "avif" else len(file) - len(sent) == 28

    def test_other_settings_than_the_receiver_expects_are_refused(self):
        other = replace(CODECS["avif"], options=(("subsampling", "4:2:0"),))
        with pytest.raises(BareFileError, match="other headers"):
            bare(other.write(Image.fromarray(picture(0)), 50), "avif", SIDE)

    def test_another_side_than_the_receiver_expects_is_refused(self):
        with pytest.raises(BareFileError, match="32 x 32"):
            bare(write(picture(0, 16), "webp", 50), "webp", SIDE)


class TestMessages:
    @given(st.integers(0, 2**32), st.sampled_from(sorted(CODECS)), st.integers(0, COLOUR), st.integers(0, 200))
    @settings(max_examples=60, deadline=None)
    def test_show_what_the_table_says_at_the_cost_it_says(self, seed, codec, setting, more):
        pixels = picture(seed)
        side, quality = SETTINGS[setting] if setting < COLOUR else (0, 0)
        if setting == COLOUR:
            least = KIND_BITS + COLOUR_BITS + END_BITS
        else:
            small = pixels if side == SIDE else np.asarray(Image.fromarray(pixels).resize((side, side)))
            least = KIND_BITS + 8 * len(bare(write(small, codec, quality), codec, side)) + END_BITS
        message = pack(pixels, codec, setting, least + more)
        assert message.shape == (least + more,)
        shown = unpack(message, codec)
        assert shown.shape == pixels.shape
        if side == SIDE:
            np.testing.assert_array_equal(shown, read(write(pixels, codec, quality)))
        with pytest.raises(ValueError, match="length"):
            pack(pixels, codec, setting, least - 1)

    def test_one_colour_is_the_mean(self):
        pixels = picture(1)
        shown = unpack(pack(pixels, "webp", COLOUR, 28), "webp")
        np.testing.assert_array_equal(shown[0, 0], pixels.reshape(-1, 3).mean(axis=0).round())
        assert (shown == shown[0, 0]).all()

    def test_a_kind_that_there_is_not_is_refused(self):
        with pytest.raises(ValueError, match="kind"):
            unpack(np.ones(40, np.uint8), "webp")


@pytest.fixture(scope="module")
def pictures():
    return np.stack([picture(seed) for seed in range(3)])


@pytest.fixture(scope="module")
def table(pictures):
    return measure_pictures(pictures, "webp")


class TestTable:
    def test_errors_are_those_of_what_is_shown(self, pictures, table):
        for setting in (0, 40, COLOUR):
            shown = unpack(pack(pictures[1], "webp", setting, 9000), "webp")
            np.testing.assert_array_equal(shown, shown_by(pictures[1], "webp", setting))
            assert table.errors[1, setting] == pytest.approx(mean_squared_error(pictures[1], shown), rel=1e-9)
        grey = np.full_like(pictures[1], 1) * np.array(MEAN_COLOUR, np.uint8)
        np.testing.assert_array_equal(shown_by(pictures[1], "webp", NOTHING), grey)
        assert table.errors[1, NOTHING] == pytest.approx(mean_squared_error(pictures[1], grey), rel=1e-9)

    @given(st.integers(0, 8000))
    @settings(deadline=None)
    def test_the_best_that_fits_is_chosen(self, pictures, table, most):
        for number, chosen in enumerate(table.best(most)):
            fits = np.flatnonzero(table.bits[number] <= most)
            if not fits.size:
                assert chosen == NOTHING
                continue
            assert chosen in fits
            assert table.errors[number, chosen] == table.errors[number, fits].min()
            assert pack(pictures[number], "webp", int(chosen), most).size == most

    def test_is_read_as_it_was_written(self, table, tmp_path):
        assert load_pictures(tmp_path / "none.npz") is None
        save_pictures(tmp_path / "table.npz", table)
        read_again = load_pictures(tmp_path / "table.npz")
        assert isinstance(read_again, PictureTable)
        for name in ("bits", "errors"):
            np.testing.assert_array_equal(getattr(read_again, name), getattr(table, name))


def test_squared_error_by_hand():
    sent = np.zeros((1, 1, 2, 3), np.uint8)
    shown = sent.copy()
    shown[0, 0, 0] = (3, 0, 0)
    shown[0, 0, 1] = (0, 0, 255)
    assert squared_error(sent, shown)[0] == (9 + 255**2) / 6
