"""Settings that source coders declare: keywords that become flags, are checked, and reach `encode` on a device."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from annotated_types import Interval
from PIL import Image

import device.encoder
from device.capture import COLUMNS, Capture, Encoded, from_row, to_row
from device.encoder import Encoder, frame_seed
from device.encoding import EncoderSettings, source_fields
from device.picture import CAPTION_HEIGHT, MARGIN, draw_view
from device.planning import PlanningError, plan_view
from semlink.access.planner import PlanMethod
from semlink.parameters import Option, keywords
from semlink.service.declared import declared_fields
from semlink.source import registry
from semlink.source.iaq import IaqFrame
from semlink.source.iaq import coder as iaq
from semlink.source.registry import Seen, SourceCoder, source_coder
from semlink.v1 import link_pb2 as pb

PIXELS = np.random.default_rng(3).integers(0, 256, (224, 224, 3), np.uint8)


def toy_encode(
    image,
    seen,
    *,
    size: Annotated[Literal[8, 16], Option("side of a tile")] = 8,
    share: Annotated[float, Interval(gt=0, le=1), Option("share that is sent")] = 0.5,
    limit: Annotated[int | None, Interval(ge=1), Option("most tiles")] = None,
    toy_seed: Annotated[int, Interval(ge=0), Option("seed", is_seed=True)] = 0,
):
    """A toy that remembers what it got."""
    CALLS.append((seen, {"size": size, "share": share, "limit": limit, "toy_seed": toy_seed}))
    return iaq.encode(image, np.ones(196), rho=0.25)


CALLS: list[tuple[object, dict[str, object]]] = []


def check_toy(*, size: int, limit: int | None, **_: object) -> None:
    if size == 16 and limit is not None:
        raise ValueError("limit: tiles of 16 have none")


@pytest.fixture
def register(monkeypatch):
    """Makes a toy coder known that takes what the test says, until the test ends."""

    def make(takes="pixels", load=None):
        coder = SourceCoder("toy", IaqFrame, takes, toy_encode, iaq.decode, load, check_toy)
        monkeypatch.setitem(registry._coders._items, "toy", coder)
        CALLS.clear()
        return coder

    return make


class Toy(EncoderSettings):
    """Settings of a process in which the toy is known: the fields are made when a class is."""

    source: str = "toy"
    size: int = 8
    share: float = 0.5
    limit: int | None = None
    toy_seed: int = 7


def test_keywords_declare_what_a_flag_needs():
    size, share, limit, seed = keywords(toy_encode)
    assert (size.choices, size.default) == ((8, 16), 8)
    assert (share.name, share.flag, share.help, share.is_seed) == ("share", "share", "share that is sent", False)
    assert (limit.default, seed.is_seed) == (None, True)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda image, *, step=4: None, "step must be Annotated with an Option"),
        (lambda image, *, step: None, "step must have a default"),
    ],
)
def test_a_keyword_that_is_no_setting_is_a_mistake(function, says):
    with pytest.raises(TypeError, match=says):
        keywords(function)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"size": 12}, "size must be one of 8, 16"),
        ({"share": 0.0}, "share must be above 0"),
        ({"share": float("nan")}, "share must be finite"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"limit": 2.5}, "limit must be of type int"),
        ({"size": 16, "limit": 2}, "limit: tiles of 16 have none"),
    ],
)
def test_settings_are_checked_alone_and_together(register, settings, says):
    coder = register()
    with pytest.raises(ValueError, match=says):
        coder.check_settings({"size": 8, "share": 0.5, "limit": None, "toy_seed": 0} | settings)


def test_fields_are_for_their_coders_and_clashes_are_found(register):
    register()
    fields = source_fields()
    assert {"source", "size", "share", "limit", "toy_seed", "rho", "method"} <= fields.keys()
    assert "(toy)" in fields["share"][1].description
    assert "toy: A toy that remembers what it got" in fields["source"][1].description
    same = declared_fields("source", {"toy": keywords(toy_encode), "other": keywords(toy_encode)[1:2]})
    assert "(toy, other)" in same["share"][1].description

    def clashing(image, *, share: Annotated[float, Interval(ge=0, le=2), Option("other")] = 1.0): ...

    with pytest.raises(ValueError, match="other and toy declare --share in different ways"):
        declared_fields("source", {"toy": keywords(toy_encode), "other": keywords(clashing)})


def test_the_settings_of_a_coder_are_what_it_is_called_with(register):
    register()
    settings = Toy(share=0.25)
    assert settings.coding == {"size": 8, "share": 0.25, "limit": None, "toy_seed": 7}
    assert settings.plan is None
    planned = Toy(plan="exact")
    assert (planned.plan, planned.planned_rho) == (PlanMethod.EXACT, None)
    with pytest.raises(ValueError, match="uniform chooses bits, which frames of --source toy have already"):
        Toy(plan="uniform")
    with pytest.raises(ValueError, match="tiles of 16 have none"):
        Toy(size=16, limit=3)
    with pytest.raises(ValueError, match="share must be at most 1"):
        Toy(share=3.0)


def test_iaqs_defaults_are_those_of_its_encode():
    settings = EncoderSettings()
    assert settings.coding == {each.name: each.default for each in source_coder("iaq").settings}
    planned = EncoderSettings(plan="uniform", rho=0.5)
    assert (planned.plan, planned.planned_rho) == (PlanMethod.UNIFORM, 0.5)
    with pytest.raises(ValueError, match="leave --total-bits out"):
        EncoderSettings(plan="fixed", total_bits=90_000)
    with pytest.raises(ValueError, match=r"needs --rho of 0\.125 or more, not 0\.1"):
        EncoderSettings(plan="fixed", rho=0.1)


def test_a_coder_of_pixels_needs_no_vision_transformer(register, monkeypatch):
    loaded = []
    register("pixels", loaded.append)
    monkeypatch.setattr(device.encoder, "load_engine", None)
    encoder = Encoder(Toy(), device_id="a", weights=Path("models"))
    assert loaded == [Path("models")]
    view = encoder.encode(PIXELS, 5)
    ((seen, settings),) = CALLS
    assert seen is None is view.attention
    assert settings["toy_seed"] == frame_seed(7, "a", 5)
    np.testing.assert_array_equal(view.pixels, PIXELS)


def test_seeds_differ_by_device_and_frame_and_are_the_same_when_a_frame_is_encoded_anew(register):
    register("pixels")
    seeds = []
    for name, frame_id in (("a", 5), ("a", 6), ("b", 5), ("a", 5)):
        Encoder(Toy(), device_id=name).encode(PIXELS, frame_id)
        seeds.append(CALLS[-1][1]["toy_seed"])
    assert seeds[0] == seeds[3]
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("takes", ["attention", "tokens"])
def test_a_coder_gets_what_it_takes_of_the_vision_transformer(register, takes):
    register(takes)
    view = Encoder(Toy(), device_id="a", engine="torch").encode(PIXELS, 0)
    ((seen, _),) = CALLS
    attention = seen
    if takes == "tokens":
        assert isinstance(seen, Seen)
        assert (seen.tokens.shape, seen.tokens.dtype) == ((196, 192), np.float32)
        attention = seen.attention
    assert attention is view.attention
    assert attention.shape == (196,)
    assert attention.sum() == pytest.approx(1, abs=1e-5)


def captured(attention):
    frame = iaq.encode(PIXELS, np.ones(196), rho=0.25).frame
    return Encoded(frame.to_bytes(), attention, None, 0.5, 0.25)


def test_a_view_without_attention_goes_through_a_spool_is_drawn_and_planned_as_it_is(tmp_path):
    capture = Capture(3, "cup", "left", 1, "id", "cup.png", None, captured(None))
    row = to_row(capture)
    assert row[COLUMNS.index("attention")] == b""
    assert from_row(list(row)).view.attention is None
    draw_view(tmp_path / "view.png", capture.view, capture.view.frame, "cup")
    assert_panels(tmp_path / "view.png", 3)  # photo, bits, received
    state = pb.ChannelState(
        subcarriers=196, streams=1, spacing_hz=15e3, total_power=196, coherence_symbols=50,
        channel=np.arange(1, 197).astype("<c8").tobytes(),
    )  # fmt: skip
    planned = plan_view(capture.view, state, PlanMethod.FIXED, 0.25)
    assert planned.view is capture.view
    assert planned.message.method == "fixed"
    with pytest.raises(PlanningError, match="uniform has no plan for the channel: method must be one of"):
        plan_view(capture.view, state, PlanMethod.UNIFORM, 0.25)


def test_segments_that_are_no_patches_are_not_drawn(tmp_path, monkeypatch):
    view = captured(None)
    monkeypatch.setattr("device.picture.IaqFrame", type(None))
    draw_view(tmp_path / "view.png", view, view.frame, "cup")
    assert_panels(tmp_path / "view.png", 2)
    view = captured(np.full(196, 1 / 196, np.float32))
    draw_view(tmp_path / "patches.png", view, view.frame, "cup")
    assert_panels(tmp_path / "patches.png", 4)


def assert_panels(path, count):
    with Image.open(path) as picture:
        assert picture.size == (count * (224 + MARGIN) + MARGIN, 224 + CAPTION_HEIGHT + MARGIN)
