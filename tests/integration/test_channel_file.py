"""A measured channel, as a device meets it: a real emulator with --channel-file, real sockets."""

import grpc
import numpy as np
import processes
import pytest
from processes import wait_until
from test_channel_planned import Upstream

from device.capture import Encoded
from device.planning import plan_view
from semlink.access.planner import PlanMethod, draw_importance
from semlink.channel.qam import awgn_bit_error_rate
from semlink.source.iaq.coder import encode_with
from semlink.source.iaq.frame import IaqFrame
from semlink.v1 import link_pb2 as pb
from semlink.v1 import link_pb2_grpc

PIXELS = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
FRAMES, SUBCARRIERS, RECEIVE, TRANSMIT = 3, 101, 2, 3


@pytest.fixture(scope="module")
def upstream():
    upstream = Upstream()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="module")
def matrices():
    generator = np.random.default_rng(7)
    shape = (FRAMES, SUBCARRIERS, RECEIVE, TRANSMIT)
    return generator.standard_normal(shape) + 1j * generator.standard_normal(shape)


def running(upstream, *flags):
    return processes.running("-m", "channel_emulator", "--upstream", upstream.address, *flags)


@pytest.fixture(scope="module")
def emulator(upstream, matrices, tmp_path_factory):
    path = tmp_path_factory.mktemp("channel") / "h.npz"
    np.savez_compressed(path, H=matrices, spacing_hz=30e3)
    flags = ("--channel", "mimo-ofdm", "--snr", 12, "--coding", "uncoded", "--order", 4, "--channel-file", path)
    with running(upstream, *flags) as emulator:
        wait_until(lambda: emulator.is_ready)
        path.unlink()  # it is in memory
        emulator.states = link_pb2_grpc.ChannelServiceStub(emulator.channel)
        yield emulator


def state_of(emulator, frame_id, device_id="camera"):
    return emulator.states.GetChannel(pb.GetChannelRequest(device_id=device_id, frame_id=frame_id), timeout=60)


def channel_of(state):
    shape = state.subcarriers, state.receive_antennas, state.transmit_antennas
    return np.frombuffer(state.channel, "<c8").reshape(shape)


def request_of(emulator, frame_id, device_id="camera"):
    """What a device does: asks for the channel, plans, encodes."""
    attention = draw_importance(0).astype(np.float32)
    view = Encoded(encode_with(PIXELS, np.ones(196, int)).to_bytes(), attention, PIXELS, 0.0, 0.0)
    made = plan_view(view, state_of(emulator, frame_id, device_id), PlanMethod.IA_QSMPA, 0.25)
    return pb.ClassifyRequest(frame=made.view.data, plan=made.message, device_id=device_id, frame_id=frame_id)


def test_the_state_is_the_files_and_frames_meet_it_in_turn(emulator, matrices):
    states = [state_of(emulator, frame_id) for frame_id in range(FRAMES + 1)]
    state = states[0]
    assert (state.subcarriers, state.streams, state.spacing_hz) == (SUBCARRIERS, RECEIVE, 30e3)
    assert state.total_power == SUBCARRIERS * RECEIVE
    scaled = matrices / np.sqrt(np.mean(np.abs(matrices) ** 2))
    start = next(number for number in range(FRAMES) if np.allclose(channel_of(state), scaled[number], atol=1e-5))
    for number, each in enumerate(states):
        np.testing.assert_allclose(channel_of(each), scaled[(start + number) % FRAMES], atol=1e-5)
    assert states[FRAMES].channel == state.channel
    assert states[FRAMES].state_id != state.state_id  # of another frame
    starts = {state_of(emulator, 0, f"camera-{number}").channel for number in range(12)}
    assert len(starts) > 1  # devices do not all begin with the same


def test_a_frame_crosses_it_and_a_retry_meets_the_same(emulator, upstream):
    upstream.received.clear()
    request = request_of(emulator, 1)
    assert len(request.plan.block_of_subchannel) == SUBCARRIERS * RECEIVE
    reports = [emulator.link.Classify(request, timeout=60).channel for _ in range(2)]
    first, again = (each.frame for each in upstream.received)
    assert first == again != request.frame
    sent, arrived = IaqFrame.from_bytes(request.frame), IaqFrame.from_bytes(first)
    np.testing.assert_array_equal(sent.bits, arrived.bits)
    assert reports[0].bits_flipped == reports[1].bits_flipped > 0
    assert reports[0].power == pytest.approx(SUBCARRIERS * RECEIVE)
    # 202 subchannels for 196 blocks: six have two.
    widths = np.bincount(request.plan.block_of_subchannel, minlength=196)
    assert np.flatnonzero(widths == 2).size == 6
    symbols = -(-768 * sent.bits.astype(int) // 2 // widths)
    np.testing.assert_allclose(reports[0].block_air_ms, symbols / 30)


def test_a_plan_for_another_number_of_subcarriers_is_refused_with_the_channels(emulator):
    request = request_of(emulator, 0)
    request.plan.ClearField("block_of_subchannel")
    request.plan.block_of_subchannel.extend(np.repeat(np.arange(196), 16))
    with pytest.raises(grpc.RpcError) as refusal:
        emulator.link.Classify(request, timeout=60)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.value.details() == (
        "plan: sizes: block_of_subchannel must have 202 entries, not 3136: "
        "the channel has 101 subcarriers × 2 streams"
    )


def test_the_control_plane_keeps_the_file_and_names_none(emulator):
    before = state_of(emulator, 0)
    changed = {"default": {"type": "finite_blocklength", "snr_db": 7.0}}
    assert emulator.http.put("/v1/impairments", json=changed).is_success
    assert state_of(emulator, 0).channel == before.channel
    assert state_of(emulator, 0).snr_db == 7
    for wrong, reason in (
        ({"type": "mimo_ofdm", "channel_file": "/etc/passwd"}, "channel_file"),
        ({"type": "mimo_ofdm", "streams": 3}, "streams must be at most 2"),
    ):
        answer = emulator.http.put("/v1/impairments", json={"default": wrong})
        assert answer.status_code == 422
        assert reason in answer.text
    assert "channel_file" not in emulator.http.get("/openapi.json").text
    assert "channel_file" not in emulator.http.get("/v1/impairments").text
    emulator.http.post("/v1/reset").raise_for_status()


def test_a_trace_is_the_snr_of_successive_frames(upstream, tmp_path):
    (tmp_path / "trace.csv").write_text("frame,snr_db\n0,30\n2,0\n")
    frame = encode_with(PIXELS, np.ones(196, np.int64)).to_bytes()
    with running(
        upstream, "--channel", "awgn", "--order", 4, "--channel-file", tmp_path / "trace.csv"
    ) as emulator:
        wait_until(lambda: emulator.is_ready)
        flipped = [
            emulator.link.Classify(
                pb.ClassifyRequest(frame=frame, device_id="camera", frame_id=frame_id), timeout=60
            ).channel.bits_flipped
            for frame_id in (0, 1, 2, 3, 5)
        ]
    expected = awgn_bit_error_rate(4, 1.0) * 196 * 768
    assert flipped[0] == flipped[1] == flipped[3] == 0
    assert all(abs(each - expected) < 6 * np.sqrt(2 * expected) for each in (flipped[2], flipped[4]))
