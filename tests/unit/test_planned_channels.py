"""Frames that travel with a plan, without the sockets: the channel held, the plan checked, what arrives."""

import math
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from channel_emulator.plan_messages import PlanRefused
from channel_emulator.randomness import FrameRandomness
from channel_emulator.settings import Settings
from channel_emulator.transmission import PRECISION, transmit
from device.planning import transmission_plan
from semlink.access.load_planner import LOAD_METHODS, plan_loads
from semlink.access.planner import draw_importance, plan
from semlink.channel.awgn import Awgn
from semlink.channel.finite_blocklength import FiniteBlocklength
from semlink.channel.mimo_ofdm import MimoOfdm
from semlink.channel.none import NoImpairment
from semlink.channel.ofdm import subchannel_gains
from semlink.channel.qam import awgn_bit_error_rate, rayleigh_bit_error_rate
from semlink.channel.rayleigh import Rayleigh
from semlink.decision.belief import Belief
from semlink.frame import FrameError
from semlink.service.settings import read_settings
from semlink.source.codec import coder as codec
from semlink.source.iaq.coder import encode_with
from semlink.source.iaq.frame import Geometry, IaqFrame
from semlink.source.opinion import opinion_frame
from semlink.source.registry import read_frame
from semlink.v1.link_pb2 import TransmissionPlan

pytestmark = pytest.mark.numeric

PIXELS = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
SCORES = np.random.default_rng(1).permutation(draw_importance(0))
SYMBOL_MS = 1 / 15


def state_of(channel, frame_id=0, device_id="camera", seed=5):
    """What the emulator draws for a frame."""
    return channel.draw_state(FrameRandomness(seed, device_id, frame_id).stream, precision=PRECISION)


def planned(channel, frame_id=0, **options):
    """A frame, the plan as made from the channel that both ends believe in, and the message."""
    made = plan(
        SCORES,
        subchannel_gains(state_of(channel, frame_id).estimate),
        channel.snr_db,
        block_error_rate=channel.block_error_rate,
        **options,
    )
    message = TransmissionPlan(
        state_id=FrameRandomness(5, "camera", frame_id).state_id(channel),
        rho=made.rho,
        power=made.power,
        block_of_subchannel=made.block_of_subchannel.ravel(),
    )
    return encode_with(PIXELS, made.bits).to_bytes(), made, message


def send(channel, frame, message, frame_id=0):
    return transmit(frame, message, channel, FrameRandomness(5, "camera", frame_id))


def go(channel, frame_id=0, **options):
    frame, made, message = planned(channel, frame_id, **options)
    return frame, made, *send(channel, frame, message, frame_id)


def test_flips_come_from_the_documented_seed_and_the_channel_from_elsewhere():
    digest = int.from_bytes(sha256(b"camera").digest())
    expected = np.random.default_rng(np.random.SeedSequence([5, digest, 7])).random(4)
    np.testing.assert_array_equal(FrameRandomness(5, "camera", 7).stream().random(4), expected)
    streams = [FrameRandomness(5, "camera", 7).stream(*of).random(4) for of in ((), (0, 0), (0, 1), (1,))]
    assert len({tuple(stream) for stream in streams}) == 4


def test_the_channel_is_held_for_a_frame_and_another_for_the_next():
    channel = MimoOfdm(streams=3)
    first, again, other = (state_of(channel, number) for number in (0, 0, 1))
    np.testing.assert_array_equal(first.at(0), again.at(3))
    ids = [FrameRandomness(5, "camera", number).state_id(channel) for number in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2]
    assert not np.array_equal(first.at(0), other.at(0))
    assert first.estimate.shape == (784, 3, 3)
    assert abs(np.mean(np.abs(first.at(0)) ** 2) - 1) < 6 / math.sqrt(784 * 9)
    np.testing.assert_array_equal(first.at(0), first.at(0).astype(np.complex64))


def test_the_state_is_another_after_any_change():
    ways = [
        MimoOfdm(), MimoOfdm(snr_db=10), MimoOfdm(streams=6), MimoOfdm(csi_error=0.1), MimoOfdm(order=16),
        MimoOfdm(redraw_every_coherence=True), FiniteBlocklength(), FiniteBlocklength(target_bler=0.01),
    ]  # fmt: skip
    ids = [FrameRandomness(5, "camera", 0).state_id(way) for way in ways]
    ids += [FrameRandomness(*other, 0).state_id(MimoOfdm()) for other in ((6, "camera"), (5, "camera-"))]
    assert len(set(ids)) == len(ids)


def test_a_setting_redraws_it_every_coherence_time():
    held, kept = (state_of(MimoOfdm(redraw_every_coherence=redraw)) for redraw in (True, False))
    np.testing.assert_array_equal(held.at(0), kept.at(0))
    assert abs(np.vdot(held.at(1), held.at(2))) < 6 * math.sqrt(784 * 16)  # independent
    np.testing.assert_array_equal(held.at(2), state_of(MimoOfdm(redraw_every_coherence=True)).at(2))


def test_a_setting_adds_estimation_errors_of_its_variance():
    held = state_of(MimoOfdm(csi_error=0.04))
    errors = held.estimate - held.at(0)
    assert np.mean(np.abs(errors) ** 2) == pytest.approx(0.04, rel=6 / math.sqrt(errors.size))
    np.testing.assert_array_equal(held.at(0), state_of(MimoOfdm()).at(0))


@pytest.mark.parametrize("method", ["ia-qsmpa", "ia-qsmpa-lc", "fixed", "exact"])
def test_ideal_coding_damages_nothing_and_takes_the_planned_time(method):
    frame, made, received, report = go(MimoOfdm(snr_db=10), method=method)
    assert received == frame
    np.testing.assert_allclose(report.block_air_ms, 1e3 * made.latencies, rtol=1e-9)
    assert report.air_ms == report.t_d_ms == pytest.approx(1e3 * made.t_d, rel=1e-9)
    assert report.exceeds_coherence == made.exceeds_coherence == (method == "fixed")
    assert report.power == pytest.approx(made.power_of_subchannel.sum()) == pytest.approx(3136)
    assert (report.impairment, report.bits_flipped, report.bits_exposed) == ("mimo_ofdm", 0, 768 * made.bits.sum())


@pytest.mark.parametrize("order", [4, 16, 64, 256])
def test_uncoded_bits_flip_as_often_as_the_closed_form_says_and_take_their_symbols_time(order):
    channel = MimoOfdm(snr_db=12, coding="uncoded", order=order)
    _, made, _, report = go(channel)
    gains = np.linalg.svd(state_of(channel).at(0), compute_uv=False)
    rates = awgn_bit_error_rate(order, gains**2 * made.power_of_subchannel / 10**-1.2)
    of_block = np.array([rates[made.block_of_subchannel == block].mean() for block in range(196)])
    expected = (768 * made.bits * of_block).sum()  # every subchannel of a block carries as much, to a symbol
    assert abs(report.bits_flipped - expected) < 6 * math.sqrt(8 * expected) + 0.01 * expected
    symbols = np.ceil(768 * made.bits / math.log2(order) / 16)
    np.testing.assert_allclose(report.block_air_ms, symbols * SYMBOL_MS, rtol=1e-9)
    assert report.air_ms == max(report.block_air_ms)
    assert report.t_d_ms == pytest.approx(1e3 * made.t_d, rel=1e-9)
    assert report.exceeds_coherence == (symbols.max() > 50)


def test_wrong_estimates_cost_bits_and_rate():
    uncoded = MimoOfdm(snr_db=30, coding="uncoded")
    flips = [go(replace(uncoded, csi_error=error))[3].bits_flipped for error in (0, 0.01, 0.1)]
    assert flips == sorted(flips)
    assert flips[2] > 2 * flips[1] > 2 * flips[0]
    _, made, _, report = go(MimoOfdm(snr_db=30, csi_error=0.01))
    assert report.t_d_ms > 1.5e3 * made.t_d
    assert report.bits_flipped == 0


def test_a_redrawn_channel_spares_frames_that_are_shorter_than_the_coherence_time():
    held, redrawn = (MimoOfdm(coding="uncoded", redraw_every_coherence=redraw) for redraw in (False, True))
    frame, _, first, report = go(held)
    assert not report.exceeds_coherence
    assert send(redrawn, frame, planned(redrawn)[2])[0] == first
    long, slow = (replace(channel, order=4) for channel in (held, redrawn))
    reports = [go(channel)[3] for channel in (long, slow)]
    assert all(report.exceeds_coherence for report in reports)
    # What is sent after 50 symbols meets a stranger's beams: nearly half of it is wrong.
    late = sum(max(768 * bits // 2 // 16 - 50, 0) * 32 for bits in planned(long)[1].bits)
    assert reports[1].bits_flipped - reports[0].bits_flipped == pytest.approx(late / 2, rel=0.2)


def test_latency_over_a_redrawn_channel_is_what_its_rates_add_up_to():
    channel = MimoOfdm(snr_db=5, redraw_every_coherence=True)
    _, made, _, report = go(channel)
    held = state_of(channel)
    left, _, right = np.linalg.svd(held.at(0))
    power, block = made.power_of_subchannel, int(np.argmax(made.latencies))
    remaining, seconds, interval = 768.0 * made.bits[block], 0.0, 0
    while remaining > 0:
        rate = 0.0
        for f, r in np.argwhere(made.block_of_subchannel == block):
            seen = np.abs(left[f].conj().T @ held.at(interval)[f] @ right[f].conj().T)[r] ** 2 * power[f]
            rate += 15e3 * math.log2(1 + seen[r] / (10**-0.5 + seen.sum() - seen[r]))
        step = min(50 / 15e3, remaining / rate)
        remaining, seconds, interval = remaining - step * rate, seconds + step, interval + 1
        remaining = 0 if remaining < 1e-6 else remaining
    assert interval > 1
    assert report.block_air_ms[block] == pytest.approx(1e3 * seconds, rel=1e-6)


def test_lost_blocks_leave_zeros_and_the_header_as_it_was_sent():
    channel = FiniteBlocklength(snr_db=15, target_bler=0.1)
    lost = 0
    for number in range(5):
        frame, made, received, report = go(channel, number)
        sent, arrived = IaqFrame.from_bytes(frame), IaqFrame.from_bytes(received)
        gone = list(report.lost_blocks)
        lost += len(gone)
        assert received[: sent.header_bits // 8] == frame[: sent.header_bits // 8]
        assert not arrived.codes[gone].any()
        assert arrived.without(gone).to_bytes() == sent.without(gone).to_bytes()
        assert report.bits_lost == 768 * sent.bits[gone].sum(dtype=int)
        assert report.bits_flipped == 0
        np.testing.assert_allclose(report.block_air_ms, 1e3 * made.latencies, rtol=1e-9)
    assert abs(lost - 98) < 6 * math.sqrt(98 * 0.9)


def test_bits_flip_by_the_papers_rule():
    channel = FiniteBlocklength(snr_db=15, target_bler=0.5, errors="ber-rule")
    frame, _, received, report = go(channel)
    expected = 10 * (1 - 0.5 ** (1 / 800)) * report.bits_exposed
    assert abs(report.bits_flipped - expected) < 6 * math.sqrt(expected)
    assert len(received) == len(frame)
    assert not report.lost_blocks


@pytest.mark.parametrize(("kind", "rate"), [(Awgn, awgn_bit_error_rate), (Rayleigh, rayleigh_bit_error_rate)])
@pytest.mark.parametrize("order", [4, 64])
def test_qam_over_a_flat_channel_flips_as_the_closed_form_says(kind, rate, order):
    frame = encode_with(PIXELS, np.full(196, 2)).to_bytes()
    randomness = FrameRandomness(5, "camera", 0)
    received, report = transmit(frame, None, kind(snr_db=8, order=order), randomness)
    expected = rate(order, 10**0.8) * report.bits_exposed
    assert report.bits_exposed == 196 * 768 * 2
    assert abs(report.bits_flipped - expected) < 6 * math.sqrt(8 * expected)
    assert received[: len(frame) - report.bits_exposed // 8] == frame[: len(frame) - report.bits_exposed // 8]
    assert transmit(frame, None, kind(snr_db=100, order=4), randomness, impair_header=True)[0] == frame


def broken(message, **fields):
    wrong = TransmissionPlan()
    wrong.CopyFrom(message)
    for name, value in fields.items():
        if isinstance(value, list):
            wrong.ClearField(name)
            getattr(wrong, name).extend(value)
        else:
            setattr(wrong, name, value)
    return wrong


def test_a_plan_that_breaks_a_rule_is_refused_by_its_name():
    channel = MimoOfdm()
    frame, made, message = planned(channel)
    power, blocks = list(message.power), list(message.block_of_subchannel)
    here, there = blocks.index(3), blocks.index(4)
    doubled = [*blocks]
    doubled[there] = blocks[here]
    cases = [
        ("sizes", frame, {"power": power[:-1]}),
        ("sizes", frame, {"power": [*power, 0.0]}),
        ("sizes", frame, {"block_of_subchannel": blocks[:-1]}),
        ("sizes", frame, {"block_of_subchannel": []}),
        ("sizes", frame, {"block_of_subchannel": blocks * 100}),
        ("mapping", frame, {"block_of_subchannel": doubled}),
        ("mapping", frame, {"block_of_subchannel": [2**32 - 1, *blocks[1:]]}),
        ("power", frame, {"power": [1.001 * each for each in power]}),
        ("power", frame, {"power": [-1e-9, *power[1:]]}),
        ("power", frame, {"power": [math.nan, *power[1:]]}),
        ("power", frame, {"power": [math.inf, *power[1:]]}),
        ("latency", frame, {"power": [0.0, *power[1:]]}),
        ("budget", frame, {"rho": 0.2499}),
        ("budget", frame, {"rho": math.nan}),
        ("bits", encode_with(PIXELS, np.maximum(made.bits - 1, 0)).to_bytes(), {}),
        ("stale", frame, {"state_id": b"another"}),
        ("error_rates", frame, {"error_rates": [0.1] * 196}),
    ]
    for rule, sent, fields in cases:
        with pytest.raises(PlanRefused, match=f"^plan: {rule}: ") as refusal:
            send(channel, sent, broken(message, **fields))
        assert refusal.value.rule == rule
        assert refusal.value.calls_for_another == (rule in ("stale", "latency"))
    with pytest.raises(PlanRefused, match=r"^plan: missing: .*--plan") as refusal:
        send(channel, frame, None)
    assert refusal.value.calls_for_another
    with pytest.raises(FrameError):
        send(channel, frame[:-1], message)
    assert send(channel, frame, broken(message, state_id=b""))[0] == frame  # made without asking
    assert send(channel, frame, broken(message, rho=0.0))[0] == frame  # planned as it is


@pytest.fixture(scope="module")
def still():
    frame = codec.encode(PIXELS, codec="jpeg", side=64, budget_bytes=1505).frame
    assert frame.segment_bits.size > 10
    return frame


class TestFramesAsTheyAre:
    """Frames of which a plan chooses no bits."""

    def message(self, channel, frame, **options):
        state = state_of(channel)
        made = plan_loads(
            frame.segment_bits,
            frame.importance,
            subchannel_gains(state.estimate),
            channel.snr_db,
            block_error_rate=channel.block_error_rate,
            **options,
        )
        return made, transmission_plan(made, FrameRandomness(5, "camera", 0).state_id(channel))

    def test_a_codecs_picture_ends_before_its_first_lost_block(self, still):
        channel = FiniteBlocklength(snr_db=15, target_bler=0.5)
        made, message = self.message(channel, still)
        received, report = send(channel, still.to_bytes(), message)
        lost = np.array(report.lost_blocks)
        assert lost.size
        # The draws are the same for every plan: a block is lost where its own error rate exceeds one.
        draws = FrameRandomness(5, "camera", 0).stream().random(made.load.size)
        np.testing.assert_array_equal(lost, np.flatnonzero(draws < made.error_rates))
        arrived = read_frame(received).without(lost)
        assert arrived.payload == still.payload[: 64 * lost[0]]
        np.testing.assert_allclose(report.block_air_ms, 1e3 * made.latencies, rtol=1e-9)

    def test_bits_by_the_papers_rule_flip_the_least_where_it_matters_most(self, still):
        channel = FiniteBlocklength(snr_db=15, target_bler=0.5, errors="ber-rule")
        frame = replace(still, payload=still.payload * 40)
        made, message = self.message(channel, frame)
        _, report = send(channel, frame.to_bytes(), message)
        length = 3136 // made.load.size * 50
        expected = sum(load * 10 * (1 - (1 - rate) ** (1 / length)) for load, rate in
                       zip(made.load, made.error_rates, strict=True))  # fmt: skip
        assert abs(report.bits_flipped - expected) < 6 * math.sqrt(expected)

    @pytest.mark.parametrize("channel", [MimoOfdm(), FiniteBlocklength()], ids=str)
    def test_what_has_no_payload_needs_no_plan(self, channel, still):
        opinion = opinion_frame(Belief.of(np.array([0.5, 0.3, 0.2]))).to_bytes()
        for frame in (opinion, replace(still, payload=b"").to_bytes()):
            received, report = send(channel, frame, None)
            assert received == frame
            assert (report.impairment, report.t_d_ms, report.bits_exposed) == (channel.name, 0, 0)
            with pytest.raises(PlanRefused, match="plan: sizes: a frame whose payload is empty"):
                send(channel, frame, TransmissionPlan())

    @pytest.mark.parametrize(
        "channel", [MimoOfdm(snr_db=45, csi_error=0.001), FiniteBlocklength(snr_db=45, target_bler=0.5)], ids=str
    )
    @pytest.mark.parametrize("method", LOAD_METHODS)
    def test_a_method_names_the_plan_that_both_ends_make(self, channel, method, still):
        made, _ = self.message(channel, still, method=method)
        state_id = FrameRandomness(5, "camera", 0).state_id(channel)
        named = transmission_plan(made, state_id, by_method=True)
        assert named.ByteSize() < 32
        received, report = send(channel, still.to_bytes(), named)
        said, told = send(channel, still.to_bytes(), transmission_plan(made, state_id))
        assert received == said
        assert (report.t_d_ms, report.power) == pytest.approx((told.t_d_ms, told.power))
        assert list(report.lost_blocks) == list(told.lost_blocks)

    def test_a_method_is_checked(self, still):
        longest = replace(still, payload=bytes(65_535)).to_bytes()
        assert send(MimoOfdm(), longest, TransmissionPlan(method="exact"))[1].t_d_ms > 0
        bits = np.ones(33 * 33, int)
        many = IaqFrame.from_codes(bits[:, None], bits, geometry=Geometry(33, 33, 1, 1), low=0, high=255)
        for frame, message in (
            (still, TransmissionPlan(method="best")),
            (still, TransmissionPlan(method="uniform")),
            (still, TransmissionPlan(method="exact", rho=0.25)),
            (still, TransmissionPlan(method="exact", power=[1.0])),
            (many, TransmissionPlan(method="exact")),
        ):
            with pytest.raises(PlanRefused, match=r"^plan: method: "):
                send(MimoOfdm(), frame.to_bytes(), message)
        with pytest.raises(PlanRefused, match=r"^plan: stale: "):
            send(MimoOfdm(), still.to_bytes(), TransmissionPlan(method="exact", state_id=b"another"))

    def test_error_rates_are_checked(self, still):
        channel = FiniteBlocklength(target_bler=0.1)
        _, message = self.message(channel, still)
        rates = list(message.error_rates)
        for rule, wrong in (
            ("error_rates", [0.11, *rates[1:]]),
            ("error_rates", [math.nan, *rates[1:]]),
            ("error_rates", [0.0, *rates[1:]]),
            ("sizes", rates[1:]),
        ):
            with pytest.raises(PlanRefused, match=f"^plan: {rule}: "):
                send(channel, still.to_bytes(), broken(message, error_rates=wrong))
        assert len(send(channel, still.to_bytes(), broken(message, error_rates=[]))[1].block_air_ms)


def test_a_measured_channel_of_fewer_subchannels_than_patches(tmp_path):
    generator = np.random.default_rng(0)
    np.save(
        tmp_path / "h.npy", generator.standard_normal((2, 50, 2, 3)) + 1j * generator.standard_normal((50, 2, 3))
    )
    channel = MimoOfdm(channel_file=tmp_path / "h.npy", snr_db=20)
    randomness = FrameRandomness(5, "camera", 0)
    state = channel.draw_state(randomness.stream, start=randomness.start, precision=PRECISION)
    made = plan(SCORES, subchannel_gains(state.estimate), 20, numerology=channel.numerology)
    frame = encode_with(PIXELS, made.bits).to_bytes()
    message = TransmissionPlan(
        state_id=randomness.state_id(channel),
        rho=made.rho,
        power=made.power,
        block_of_subchannel=made.block_of_subchannel.ravel(),
    )
    received, report = transmit(frame, message, channel, randomness)
    assert received == frame
    assert report.t_d_ms == pytest.approx(1e3 * made.t_d, rel=1e-9)
    assert report.power == pytest.approx(100)  # of one OFDM symbol
    with pytest.raises(
        PlanRefused,
        match="200 entries, not 199: the channel has 50 subcarriers × 2 streams, and 196 blocks take 2 OFDM",
    ):
        transmit(frame, broken(message, block_of_subchannel=list(range(196)) + [0] * 3), channel, randomness)


def test_a_frame_of_another_shape_is_refused_for_its_size():
    channel = MimoOfdm()
    _, _, message = planned(channel)
    small = encode_with(PIXELS[:208], np.ones(13 * 14, np.int64)).to_bytes()
    with pytest.raises(PlanRefused, match="sizes: power must have 182 entries, not 196"):
        send(channel, small, message)


def test_a_block_without_power_arrives_as_noise_when_uncoded():
    channel = MimoOfdm(snr_db=60, coding="uncoded", order=4)
    frame, _, message = planned(channel)
    powerless = int(np.argmax(IaqFrame.from_bytes(frame).bits))
    power = list(message.power)
    power[powerless] = 0.0
    received, report = send(channel, frame, broken(message, power=power))
    sent, arrived = IaqFrame.from_bytes(frame), IaqFrame.from_bytes(received)
    wrong = (sent.codes != arrived.codes).any(axis=1)
    assert wrong[powerless]
    assert math.isinf(report.t_d_ms)
    assert math.isfinite(report.air_ms)
    bits = 768 * int(sent.bits[powerless])
    assert abs(report.bits_flipped - bits / 2) < 6 * math.sqrt(bits)


def settings(*flags):
    return read_settings(Settings, "channel_emulator", ["--upstream", "a:1", *flags]).impairment()


def test_flags_name_every_channel():
    assert settings("--channel", "none") == NoImpairment()
    assert settings("--channel", "awgn", "--snr", "7", "--order", "16") == Awgn(snr_db=7, order=16)
    assert settings("--channel", "rayleigh", "--snr", "-3") == Rayleigh(snr_db=-3)
    assert settings("--channel", "mimo-ofdm") == MimoOfdm()
    told = ("--snr", "5", "--streams", "8", "--csi-error", "0.1", "--redraw-every-coherence")
    assert settings("--channel", "mimo-ofdm", *told, "--coding", "uncoded", "--order", "4") == MimoOfdm(
        snr_db=5, streams=8, csi_error=0.1, redraw_every_coherence=True, coding="uncoded", order=4
    )
    finite = ("--target-bler", "0.01", "--errors", "ber-rule")
    assert settings("--channel", "finite-blocklength", *told, *finite) == FiniteBlocklength(
        snr_db=5, streams=8, csi_error=0.1, redraw_every_coherence=True, target_bler=0.01, errors="ber-rule"
    )


@pytest.mark.parametrize(
    "flags",
    [("--order", "32"), ("--streams", "0"), ("--streams", "17"), ("--target-bler", "0"), ("--target-bler", "0.6"),
     ("--snr", "nan"), ("--csi-error", "-1"), ("--coding", "turbo"), ("--errors", "none")],
)  # fmt: skip
def test_a_wrong_flag_is_explained(flags, capsys):
    with pytest.raises(SystemExit):
        settings("--channel", "mimo-ofdm", *flags)
    assert flags[0] in capsys.readouterr().err
