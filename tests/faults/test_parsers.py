"""Whatever is read from outside is taken or refused by its own error, never by another.

Frames and pictures: tests/unit/test_bitstream.py and test_images.py.
"""

import contextlib
import io

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretBytes, ValidationError

from channel_emulator.per_device import Impairments, ImpairmentsPatch, PatchError
from channel_emulator.plan_messages import PlanRefused, read_plan
from channel_emulator.scenario import Scenario, Timeline
from channel_emulator.settings import Settings as EmulatorSettings
from device.settings import DeviceSettings
from semlink.channel import recording_files
from semlink.channel.finite_blocklength import FiniteBlocklength
from semlink.service.header_tag import keys_of_devices
from semlink.service.keys import ApiKeys, read_keys
from semlink.service.settings import StartupError, read_settings
from semlink.source.iaq.coder import encode
from semlink.source.iaq.frame import IaqFrame
from semlink.v1.link_pb2 import TransmissionPlan
from server.settings import ServerSettings

FRAME = IaqFrame.from_bytes(encode(np.zeros((224, 224, 3), np.uint8), np.ones(196), rho=0.5).frame.to_bytes())
CHANNEL, STATE_ID = FiniteBlocklength(target_bler=0.01), b"the state of the channel"
NUMEROLOGY, STATE = CHANNEL.numerology, CHANNEL.draw_state(lambda *_: np.random.default_rng(0))
NUMBERS = st.sampled_from([0.0, -0.0, -1.0, 1e-320, 1e308, float("inf"), float("nan"), 0.5, 1.0]) | st.floats()
LINES = st.lists(
    st.text(max_size=20)
    | st.sampled_from(["camera", "a" * 129, "00" * 32, "0" * 63, "#", "\N{NO-BREAK SPACE}", "\0"]),
    max_size=8,
).map(" ".join) | st.text(max_size=60)
FILES = st.lists(LINES, max_size=5).map("\n".join).map(
    lambda text: text.encode("utf-8", "surrogatepass")
) | st.binary(max_size=100)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["bsc", "none"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["default", "devices", "type", "ber", "order", "preset", "steps", "at", "loop"])
            | st.text(max_size=5),
            inner,
        )
    ),
    max_leaves=10,
)


@st.composite
def plans(draw) -> TransmissionPlan:
    """As long as it must be, or not, and every block with as many subchannels, or not."""
    subchannels = NUMEROLOGY.subchannels
    shares = np.arange(subchannels) % draw(st.sampled_from([1, 195, 196, 197]))
    plan = TransmissionPlan(
        state_id=draw(st.sampled_from([b"", STATE_ID, b"x"]) | st.binary(max_size=40)),
        rho=draw(NUMBERS),
        power=[draw(NUMBERS)] * draw(st.sampled_from([0, 1, 196, 196, 196])),
        block_of_subchannel=shares[: draw(st.sampled_from([0, 1, subchannels, subchannels]))],
        error_rates=[draw(NUMBERS)] * draw(st.sampled_from([0, 0, 1, 196])),
        method=draw(st.sampled_from(["", "", "", "exact", "best"])),
    )
    if plan.block_of_subchannel:
        plan.block_of_subchannel[0] = draw(st.sampled_from([0, 1, 195, 196, 2**32 - 1]))
    return plan


@given(plans())
def test_plans(plan):
    with contextlib.suppress(PlanRefused), np.errstate(all="raise"):
        planned = read_plan(plan, FRAME, CHANNEL, STATE, STATE_ID)
        assert planned.error_rates is None or 0 < planned.error_rates.max() <= 0.01
        assert np.isfinite(planned.power).all()
        assert planned.power_of_subchannel.sum() < 2 * NUMEROLOGY.total_power


@given(plans(), st.data())
def test_plans_damaged_on_their_way(plan, data):
    plan.rho = plan.rho or 1.0  # there is something to damage
    message = bytearray(plan.SerializeToString())
    for _ in range(data.draw(st.integers(1, 5))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        plan = TransmissionPlan.FromString(bytes(message))
    except DecodeError:
        return
    with contextlib.suppress(PlanRefused):
        read_plan(plan, FRAME, CHANNEL, STATE, STATE_ID)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("files") / "keys"


@given(data=FILES)
def test_files_of_keys(file, data):
    file.write_bytes(data)
    with contextlib.suppress(StartupError):
        assert isinstance(read_keys(file), ApiKeys)
    with contextlib.suppress(StartupError):
        assert all(isinstance(key, SecretBytes) for key in keys_of_devices(file).values())


def _recordings() -> dict[str, bytes]:
    """A good channel file of every kind."""
    matrices, files = np.ones((2, 3, 1, 2), np.complex64), {}
    for name, save in (
        ("h.npy", lambda file: np.save(file, matrices)),
        ("h.npz", lambda file: np.savez_compressed(file, H=matrices, spacing_hz=15e3)),
        ("taps.npz", lambda file: np.savez(file, taps=matrices, sample_rate=1e6, subcarriers=4)),
    ):
        save(file := io.BytesIO())
        files[name] = file.getvalue()
    return files | {"trace.csv": b"frame,snr_db\n0,20\n3,-5.5\n"}


RECORDINGS = _recordings()


@given(name=st.sampled_from(sorted(RECORDINGS)), data=st.data())
def test_channel_files(name, data, tmp_path_factory):
    content = bytearray(RECORDINGS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["byte", "cut", "insert"])):
            case "byte":
                content[at] = data.draw(st.integers(0, 255))
            case "cut" if at:
                del content[at:]
            case _:
                content[at:at] = data.draw(
                    st.binary(max_size=5) | st.sampled_from([b"9" * 30, b"nan", b"-", b"\0"])
                )
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    recording_files._read.cache_clear()
    with contextlib.suppress(ValueError):
        recording = recording_files.read_recording(path)
        assert np.isfinite(recording.at(5)).all()


@given(JSON)
def test_impairments(value):
    try:
        impairments = Impairments.model_validate(value)
    except ValidationError:
        return
    assert Impairments.model_validate_json(impairments.model_dump_json()) == impairments


@given(JSON)
def test_patches_and_scenarios(value):
    start = Impairments(default={"type": "bsc", "ber": 0.1})
    with contextlib.suppress(ValidationError, PatchError):
        changed = start.patched(ImpairmentsPatch.model_validate(value))
        assert Impairments.model_validate_json(changed.model_dump_json()) == changed
    with contextlib.suppress(ValidationError, PatchError):
        Timeline.of(Scenario.model_validate(value), start)


@given(st.data())
def test_flags(data):
    settings_class = data.draw(st.sampled_from([ServerSettings, EmulatorSettings, DeviceSettings]))
    name = data.draw(st.sampled_from(sorted(settings_class.model_fields)))
    value = data.draw(st.text(max_size=10) | NUMBERS.map(str) | st.integers().map(str))
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            read_settings(settings_class, "process", [f"--{name.replace('_', '-')}={value}"])
        except SystemExit as end:
            status = end.code
        else:
            return
    assert status == 2
    assert "process" in said.getvalue()
