import numpy as np
import pytest
from PIL import Image

from device.camera import VIEWPOINTS, Viewpoint, take_view
from semlink.vision.images import ImageError
from semlink.vision.photos import find_photos

RNG = np.random.default_rng(5)


def photo(tmp_path, width, height):
    path = tmp_path / f"{width}x{height}.png"
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def cat():
    return find_photos(["chelsea"])[0]


def test_four_viewpoints_see_the_photo_differently(cat):
    views = [take_view(cat, viewpoint).astype(float) for viewpoint in VIEWPOINTS]
    assert len(views) == 4
    assert all(view.shape == (224, 224, 3) for view in views)
    for first in range(4):
        for second in range(first):
            assert np.abs(views[first] - views[second]).mean() > 10


def test_the_first_viewpoint_is_the_photo_s_upright_middle(tmp_path):
    path = photo(tmp_path, 256, 256)
    np.testing.assert_array_equal(take_view(path, VIEWPOINTS[0]), take_view(path))


def test_a_view_is_the_same_each_time(cat):
    for viewpoint in (None, *VIEWPOINTS):
        np.testing.assert_array_equal(take_view(cat, viewpoint), take_view(cat, viewpoint))


def test_exposure_scales_the_brightness(tmp_path):
    path = tmp_path / "grey.png"
    Image.new("RGB", (300, 300), (100, 100, 100)).save(path)
    for exposure in (0.5, 1.0, 2.0, 4.0):
        view = take_view(path, Viewpoint(centre=(0.5, 0.5), scale=1.0, rotation=0, exposure=exposure))
        assert (view == min(round(100 * exposure), 255)).all()


def test_a_crop_beyond_the_edge_is_moved_into_the_photo(tmp_path):
    path = tmp_path / "white.png"
    Image.new("RGB", (300, 200), "white").save(path)
    for centre in ((0, 0), (1, 1), (0, 1)):
        assert (take_view(path, Viewpoint(centre, scale=0.9, rotation=0, exposure=1)) == 255).all()


def test_a_rotation_keeps_the_middle_and_blackens_the_corners(tmp_path):
    path = tmp_path / "white.png"
    Image.new("RGB", (224, 224), "white").save(path)
    view = take_view(path, Viewpoint((0.5, 0.5), scale=1.0, rotation=45, exposure=1))
    assert (view[112, 112] == 255).all()
    assert (view[0, 0] == 0).all()
    assert (view[-1, -1] == 0).all()


@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 1), (2, 2), (3, 1), (1, 7), (5, 4), (101, 1), (1, 999), (3000, 2), (2, 3001), (16, 16)]
    + [(width, 1) for width in range(10, 20)],
)
def test_a_tiny_or_elongated_photo_is_still_seen_from_everywhere(tmp_path, width, height):
    path = photo(tmp_path, width, height)
    for viewpoint in (None, *VIEWPOINTS):
        view = take_view(path, viewpoint)
        assert view.shape == (224, 224, 3)
        assert view.dtype == np.uint8


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_any_colour_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / "photo.png"
    suffix = path.with_suffix(".jpg") if mode == "CMYK" else path
    Image.new("RGB", (40, 30), (200, 30, 30)).convert(mode).save(suffix)
    for viewpoint in (None, *VIEWPOINTS):
        assert take_view(suffix, viewpoint).shape == (224, 224, 3)


def test_what_is_no_picture_is_an_image_error(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    for path in (text, tmp_path / "missing.png", tmp_path):
        with pytest.raises(ImageError, match=path.name):
            take_view(path, VIEWPOINTS[1])
