import numpy as np
import pytest

from semlink.frame import FrameError
from semlink.source.iaq.allocation import incremental
from semlink.source.iaq.coder import decode, encode, encode_with
from semlink.source.iaq.frame import IaqFrame
from semlink.source.iaq.importance import importance_weights

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A 224×224 picture with slopes, edges and noise."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:224, :224]
    picture = np.stack([row, column, (row // 32 + column // 32) % 2 * 200], axis=2)
    return np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scores() -> np.ndarray:
    return np.random.default_rng(1).dirichlet(np.full(196, 0.5))


def grey(rows: int, columns: int, channels: int = 1) -> np.ndarray:
    count = rows * columns * 256 * channels
    return (np.arange(count) % 251).astype(np.uint8).reshape(16 * rows, 16 * columns, channels)


@pytest.mark.parametrize("rho", [0.0, 0.125, 0.25, 0.3, 1.0])
def test_spends_the_budget_on_the_best_allocation(photo, scores, rho):
    frame = encode(photo, scores, rho=rho, gamma=2.0, design_ber=0.05).frame
    steps = int(8 * 196 * rho)
    weights = importance_weights(scores, gamma=2.0)
    np.testing.assert_array_equal(frame.bits, incremental(weights, steps, bit_error_rate=0.05))
    assert frame.payload_bits == 768 * steps
    assert rho - 1 / (8 * 196) < frame.rho <= rho
    assert frame.header_bits == 904


def test_a_frame_says_by_its_bit_map_which_patches_matter(photo, scores):
    frame = IaqFrame.from_bytes(encode(photo, scores, rho=0.25).frame.to_bytes())
    importance = frame.importance
    assert importance.shape == (196,)
    assert 0 <= importance.min() <= importance.max() <= 1
    # Whoever has more bits got more attention: the encoder's own order, up to patches of as many bits.
    weights = importance_weights(scores)
    order = np.argsort(importance, kind="stable")
    assert (np.diff(importance[order]) >= 0).all()
    for level in np.unique(importance)[1:]:
        assert weights[importance == level].min() >= weights[importance < level].max()


def test_defaults_are_the_papers(photo, scores):
    expected = encode(photo, scores, rho=0.25, gamma=1.0, design_ber=0.0).frame
    assert encode(photo, scores).frame.to_bytes() == expected.to_bytes()


@pytest.mark.parametrize("rho", [0.125, 0.25, 1.0])
def test_every_pixel_comes_back_within_half_a_cell(photo, scores, rho):
    frame = IaqFrame.from_bytes(encode(photo, scores, rho=rho).frame.to_bytes())
    received = decode(frame)
    assert received.shape == photo.shape
    assert received.dtype == np.float64
    half_cell = (int(photo.max()) - int(photo.min())) / 2.0**frame.bits / 2
    per_pixel = np.kron(half_cell.reshape(14, 14), np.ones((16, 16)))[..., None]
    assert (np.abs(received - photo) <= per_pixel + 1e-9).all()


def test_patches_are_not_mixed_up(photo, scores):
    """Only one patch has bits: it comes back sharp, in its place, and all else is the middle."""
    scores = np.zeros(196)
    scores[3 * 14 + 5] = 1
    received = decode(encode(photo, scores, rho=8 / (8 * 196)).frame)
    low, high = int(photo.min()), int(photo.max())
    sharp = (slice(3 * 16, 4 * 16), slice(5 * 16, 6 * 16))
    assert np.abs(received[sharp] - photo[sharp]).max() <= (high - low) / 512
    received[sharp] = (low + high) / 2
    np.testing.assert_array_equal(received, np.full(photo.shape, (low + high) / 2))


@pytest.mark.parametrize("patches", [5, 49])
def test_a_ratio_of_whole_steps_gives_those_steps(patches):
    """k/(8N) must give k steps, whichever way the quotient was rounded."""
    image = grey(1, patches)
    for steps in range(8 * patches + 1):
        frame = encode(image, np.arange(patches), rho=steps / (8 * patches)).frame
        assert frame.bits.sum() == steps


@pytest.mark.parametrize("channels", [1, 3])
def test_other_shapes(channels):
    image = grey(2, 5, channels)
    frame = encode(image, np.arange(10), rho=1).frame
    assert (frame.geometry.rows, frame.geometry.columns, frame.geometry.channels) == (2, 5, channels)
    assert np.abs(decode(frame) - image).max() <= 0.5


def test_a_flat_image_comes_back_exactly():
    image = np.full((32, 32, 3), 77, np.uint8)
    np.testing.assert_array_equal(decode(encode(image, np.arange(4)).frame), image)


def test_a_view_of_memory_is_as_good_as_an_array(photo, scores):
    mirrored = photo[:, ::-1]
    assert encode(mirrored, scores).frame.to_bytes() == encode(mirrored.copy(), scores).frame.to_bytes()


@pytest.mark.parametrize(
    "image", [np.zeros((32, 32, 3)), np.zeros((32, 32), np.uint8), np.zeros((30, 32, 3), np.uint8)]
)
def test_refuses_image(image):
    with pytest.raises(ValueError, match=r"^image must"):
        encode(image, np.ones(4))


@pytest.mark.parametrize("image", [grey(1, 2, channels=2), grey(1, 2, channels=4)])
def test_refuses_channels_that_no_frame_carries(image):
    with pytest.raises(FrameError) as caught:
        encode(image, [1, 2])
    assert caught.value.reason == "geometry"


@pytest.mark.parametrize("scores", [np.ones(3), np.ones(5), [], [1, 2, 3, np.nan]])
def test_refuses_scores(scores):
    with pytest.raises(ValueError, match=r"^scores must"):
        encode(grey(2, 2), scores)


@pytest.mark.parametrize("rho", [-0.1, 1.01, np.nan])
def test_refuses_rho(rho):
    with pytest.raises(ValueError, match=r"^rho must"):
        encode(grey(2, 2), np.ones(4), rho=rho)


def test_refuses_gamma_and_design_ber():
    with pytest.raises(ValueError, match=r"^gamma must"):
        encode(grey(2, 2), np.ones(4), gamma=0)
    with pytest.raises(ValueError, match=r"^bit_error_rate must"):
        encode(grey(2, 2), np.ones(4), design_ber=0.3)


def test_bits_that_are_chosen_already_make_the_frame_of_those_bits(photo, scores):
    chosen = encode(photo, scores, rho=0.3).frame
    assert encode_with(photo, chosen.bits.astype(np.int64)).to_bytes() == chosen.to_bytes()
    with pytest.raises(ValueError, match=f"bits must be one per patch: {chosen.bits.size}"):
        encode_with(photo, chosen.bits[1:].astype(np.int64))
    with pytest.raises(ValueError, match="image must be 8-bit"):
        encode_with(photo.astype(float), chosen.bits.astype(np.int64))
