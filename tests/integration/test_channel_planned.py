"""Channels that take plans, and QAM over flat ones, as a device meets them: a real emulator, real sockets."""

import asyncio
import math
import time
from concurrent import futures
from contextlib import contextmanager

import grpc
import numpy as np
import processes
import pytest
from processes import wait_until

from semlink.access.planner import draw_importance, plan
from semlink.channel.ofdm import subchannel_gains
from semlink.channel.qam import awgn_bit_error_rate, rayleigh_bit_error_rate
from semlink.source.iaq.coder import encode_with
from semlink.source.iaq.frame import IaqFrame
from semlink.v1 import link_pb2 as pb
from semlink.v1 import link_pb2_grpc

PIXELS = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
SCORES = np.random.default_rng(1).permutation(draw_importance(0))


class Upstream(link_pb2_grpc.LinkServiceServicer):
    """Keeps the frames that arrive."""

    def __init__(self):
        self.received = []
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        link_pb2_grpc.add_LinkServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Classify(self, request, context):
        self.received.append(request)
        return pb.ClassifyResponse()

    def stop(self):
        self._server.stop(None).wait()


@pytest.fixture(scope="module")
def upstream():
    upstream = Upstream()
    yield upstream
    upstream.stop()


@contextmanager
def running(upstream, *flags):
    with processes.running(
        "-m", "channel_emulator", "--upstream", upstream.address, "--seed", "5", *flags
    ) as emulator:
        wait_until(lambda: emulator.is_ready)
        emulator.states = link_pb2_grpc.ChannelServiceStub(emulator.channel)
        yield emulator


@pytest.fixture(scope="module")
def one_emulator(upstream):
    with running(upstream, "--channel", "mimo-ofdm", "--snr", "10") as emulator:
        yield emulator


@pytest.fixture
def emulator(one_emulator, upstream):
    upstream.received.clear()
    one_emulator.http.post("/v1/reset").raise_for_status()
    return one_emulator


def put(emulator, kind, **parameters):
    body = {"default": {"type": kind, **parameters}}
    emulator.http.put("/v1/impairments", json=body).raise_for_status()


def state_of(emulator, device_id="camera", frame_id=0):
    return emulator.states.GetChannel(pb.GetChannelRequest(device_id=device_id, frame_id=frame_id), timeout=60)


def channel_of(state):
    return np.frombuffer(state.channel, "<c8").reshape(state.subcarriers, state.streams, state.streams)


def planned(emulator, device_id="camera", frame_id=0, **options):
    """What a device does: asks for the channel, plans, encodes."""
    state = state_of(emulator, device_id, frame_id)
    bler = state.target_bler if state.HasField("target_bler") else None
    gains = subchannel_gains(channel_of(state).astype(complex))
    made = plan(SCORES, gains, state.snr_db, block_error_rate=bler, **options)
    message = pb.TransmissionPlan(
        state_id=state.state_id,
        rho=made.rho,
        power=made.power,
        block_of_subchannel=made.block_of_subchannel.ravel(),
    )
    frame = encode_with(PIXELS, made.bits).to_bytes()
    return made, pb.ClassifyRequest(frame=frame, plan=message, device_id=device_id, frame_id=frame_id)


def send(emulator, request, seconds=10):
    return emulator.link.Classify(request, timeout=seconds).channel


def refusal_of(emulator, request):
    with pytest.raises(grpc.RpcError) as error:
        send(emulator, request)
    return error.value.code(), error.value.details()


def test_the_state_says_what_the_channel_is(emulator):
    state = state_of(emulator)
    assert state == state_of(emulator)
    assert (state.impairment, state.subcarriers, state.streams) == ("mimo_ofdm", 784, 4)
    assert (state.snr_db, state.total_power, state.spacing_hz, state.coherence_symbols) == (10, 3136, 15_000, 50)
    assert not state.HasField("target_bler")
    assert abs(np.mean(np.abs(channel_of(state)) ** 2) - 1) < 6 / math.sqrt(784 * 16)
    others = [state_of(emulator, "camera", 1), state_of(emulator, "camera-2", 0)]
    assert len({each.channel for each in [state, *others]}) == 3
    put(emulator, "finite_blocklength", streams=16, target_bler=0.25)
    widest = state_of(emulator)
    assert (widest.target_bler, channel_of(widest).shape) == (0.25, (784, 16, 16))


def test_a_channel_without_plans_has_no_state_to_tell(emulator, upstream):
    _, request = planned(emulator)
    put(emulator, "bsc", ber=0)
    with pytest.raises(grpc.RpcError) as error:
        state_of(emulator)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert send(emulator, request).impairment == "bsc"  # and ignores a plan
    assert upstream.received[0].plan == request.plan


def test_the_state_is_told_through_a_channel_that_takes_no_plans(emulator, upstream):
    made, request = planned(emulator)
    with processes.running(
        "-m", "channel_emulator", "--upstream", emulator.grpc_address, "--channel", "bsc", "--ber", "0.01"
    ) as first:
        first.states = link_pb2_grpc.ChannelServiceStub(first.channel)
        wait_until(lambda: first.is_ready)
        assert state_of(first) == state_of(emulator)
        report = send(first, request)
    assert report.impairment == "bsc+mimo_ofdm"
    assert report.t_d_ms == pytest.approx(1e3 * made.t_d, rel=1e-9)
    assert report.bits_flipped > 1000


def test_ideal_coding_is_free_of_errors_and_takes_the_planned_time(emulator, upstream):
    made, request = planned(emulator)
    report = send(emulator, request)
    assert upstream.received[0] == request
    assert (report.bits_flipped, report.bits_exposed) == (0, IaqFrame.from_bytes(request.frame).payload_bits)
    np.testing.assert_allclose(report.block_air_ms, 1e3 * made.latencies, rtol=1e-9)
    assert report.air_ms == report.t_d_ms == pytest.approx(1e3 * made.t_d, rel=1e-9)
    assert report.power == pytest.approx(3136)


def test_uncoded_bits_flip_as_the_closed_form_says_and_a_retry_meets_the_same_flips(emulator, upstream):
    put(emulator, "mimo_ofdm", snr_db=10, coding="uncoded", order=16)
    made, request = planned(emulator)
    other = planned(emulator, frame_id=1)[1]
    report, _, retry = (send(emulator, each) for each in (request, other, request))
    gains = np.linalg.svd(channel_of(state_of(emulator)), compute_uv=False)
    rates = awgn_bit_error_rate(16, gains**2 * made.power_of_subchannel * 10)
    of_block = np.array([rates[made.block_of_subchannel == block].mean() for block in range(196)])
    expected = (768 * made.bits * of_block).sum()
    assert abs(report.bits_flipped - expected) < 6 * math.sqrt(8 * expected) + 0.01 * expected
    assert report.air_ms == pytest.approx(np.ceil(768 * made.bits / 4 / 16).max() / 15)
    assert report.t_d_ms == pytest.approx(1e3 * made.t_d, rel=1e-9)
    first, _, again = (each.frame for each in upstream.received)
    assert (again, retry.bits_flipped) == (first, report.bits_flipped)


def test_the_same_seed_gives_the_same_channel_and_the_same_flips(emulator, upstream):
    put(emulator, "mimo_ofdm", snr_db=10, coding="uncoded")
    _, request = planned(emulator)
    send(emulator, request)
    with running(upstream, "--channel", "mimo-ofdm", "--snr", "10", "--coding", "uncoded") as another:
        assert planned(another)[1] == request
        send(another, request)
    first, second = (each.frame for each in upstream.received)
    assert first == second != request.frame


def test_lost_blocks_do_not_arrive(emulator, upstream):
    put(emulator, "finite_blocklength", snr_db=10, target_bler=0.2)
    made, request = planned(emulator)
    report = send(emulator, request)
    sent, arrived = IaqFrame.from_bytes(request.frame), IaqFrame.from_bytes(upstream.received[0].frame)
    gone = list(report.lost_blocks)
    assert 10 < len(gone) < 80
    assert sorted(upstream.received[0].lost_patches) == gone
    np.testing.assert_array_equal(arrived.bits, sent.bits)
    np.testing.assert_array_equal(arrived.codes, sent.codes * ~np.isin(np.arange(196), gone)[:, None])
    assert report.t_d_ms == pytest.approx(1e3 * made.t_d, rel=1e-9)
    assert emulator.metric("semlink_channel_blocks_lost_total") >= len(report.lost_blocks)


def test_emulators_in_a_row_add_what_they_lose(emulator, upstream):
    put(emulator, "finite_blocklength", snr_db=10, target_bler=0.3)
    _, request = planned(emulator)
    request.plan.ClearField("state_id")  # made for the second; it does for the first
    with running(upstream, "--channel", "finite-blocklength", "--target-bler", "0.3", "--seed", "9") as last:
        alone = [set(send(each, request).lost_blocks) for each in (emulator, last)]
        with processes.running(
            *("-m", "channel_emulator", "--upstream", last.grpc_address, "--channel", "finite-blocklength"),
            *("--target-bler", "0.3", "--snr", "10", "--seed", "5"),
        ) as first:
            wait_until(lambda: first.is_ready)
            send(first, request)
    assert alone[0] - alone[1]
    assert alone[1] - alone[0]
    assert sorted(upstream.received[-1].lost_patches) == sorted(alone[0] | alone[1])


def test_bits_flip_by_the_papers_rule(emulator):
    put(emulator, "finite_blocklength", snr_db=10, target_bler=0.5, errors="ber-rule")
    report = send(emulator, planned(emulator)[1])
    expected = 10 * (1 - 0.5 ** (1 / 800)) * report.bits_exposed
    assert abs(report.bits_flipped - expected) < 6 * math.sqrt(expected)


@pytest.mark.parametrize(("kind", "rate"), [("awgn", awgn_bit_error_rate), ("rayleigh", rayleigh_bit_error_rate)])
def test_qam_over_a_flat_channel_needs_no_plan(emulator, upstream, kind, rate):
    put(emulator, kind, snr_db=9, order=16)
    frame = encode_with(PIXELS, np.full(196, 2)).to_bytes()
    report = send(emulator, pb.ClassifyRequest(frame=frame, device_id="camera"))
    expected = rate(16, 10**0.9) * report.bits_exposed
    assert abs(report.bits_flipped - expected) < 6 * math.sqrt(8 * expected)
    assert IaqFrame.from_bytes(upstream.received[0].frame).bits.tolist() == [2] * 196


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("sizes", lambda request: request.plan.power.append(0)),
        ("sizes", lambda request: request.plan.block_of_subchannel.extend([0] * 200_000)),
        ("bits", lambda request: setattr(request, "frame", encode_with(PIXELS, np.arange(196) % 2).to_bytes())),
        ("budget", lambda request: setattr(request.plan, "rho", 0.2)),
        ("mapping", lambda request: request.plan.block_of_subchannel.__setitem__(0, 2**32 - 1)),
        ("power", lambda request: request.plan.power.__setitem__(0, 1e6)),
    ],
)
def test_a_plan_that_breaks_a_rule_is_refused_with_its_name(emulator, upstream, rule, change):
    _, request = planned(emulator)
    change(request)
    name = f'semlink_channel_plans_refused_total{{rule="{rule}"}}'
    before = emulator.metric(name)
    code, details = refusal_of(emulator, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(f"plan: {rule}: ")
    assert emulator.metric(name) == before + 1
    assert upstream.received == []


def test_a_channel_too_poor_for_any_rate_calls_for_a_plan_when_it_is_better(emulator, upstream):
    put(emulator, "finite_blocklength", snr_db=-20)
    made, request = planned(emulator)
    assert math.isinf(made.t_d)
    code, details = refusal_of(emulator, request)
    assert code is grpc.StatusCode.ABORTED
    assert details.startswith("plan: latency: 196 blocks get nothing through")
    assert upstream.received == []
    put(emulator, "finite_blocklength", snr_db=10)
    made, request = planned(emulator)
    assert send(emulator, request).t_d_ms == pytest.approx(1e3 * made.t_d)


def test_a_plan_for_an_older_channel_and_no_plan_at_all_call_for_another(emulator, upstream):
    _, request = planned(emulator)
    for change in ({"snr_db": 10, "streams": 6}, {"snr_db": 11}):
        put(emulator, "mimo_ofdm", **change)
        code, details = refusal_of(emulator, request)
        assert code is grpc.StatusCode.ABORTED
        assert details.startswith("plan: stale: ")
    made, request = planned(emulator)
    assert send(emulator, request).t_d_ms == pytest.approx(1e3 * made.t_d)
    request.ClearField("plan")
    code, details = refusal_of(emulator, request)
    assert code is grpc.StatusCode.ABORTED
    assert details.startswith("plan: missing: ")
    assert "--plan" in details
    assert len(upstream.received) == 1


def test_pace_takes_the_time_on_the_air_and_lets_others_pass(upstream):
    with running(upstream, "--channel", "mimo-ofdm", "--snr", "0", "--pace") as emulator:
        # By fixed powers at 0 dB the frame takes seconds, by a plan for the channel milliseconds.
        made, slow = planned(emulator, method="fixed")
        _, quick = planned(emulator, "camera-2", method="ia-qsmpa")
        assert 0.5 < made.t_d < 8

        async def both():
            async with grpc.aio.insecure_channel(emulator.grpc_address) as channel:
                link, started, order = link_pb2_grpc.LinkServiceStub(channel), time.perf_counter(), []

                async def call(request):
                    report = (await link.Classify(request, timeout=30)).channel
                    order.append(request.device_id)
                    return time.perf_counter() - started, report

                return *(await asyncio.gather(call(slow), call(quick))), order

        (seconds, report), _, order = asyncio.run(both())
        assert report.air_ms == pytest.approx(1e3 * made.t_d)
        assert seconds >= made.t_d
        assert order == ["camera-2", "camera"]
        with pytest.raises(grpc.RpcError) as error:
            send(emulator, slow, seconds=made.t_d / 4)
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(upstream.received) >= 2
