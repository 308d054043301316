"""Measured channels: files of H, of taps and of SNR, what is refused of them, and what frames meet."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from semlink.access.planner import draw_importance, plan
from semlink.channel import recording_files
from semlink.channel.awgn import Awgn
from semlink.channel.base import RawBits
from semlink.channel.finite_blocklength import FiniteBlocklength
from semlink.channel.mimo_ofdm import MimoOfdm
from semlink.channel.ofdm import Numerology, draw_channel
from semlink.channel.rayleigh import Rayleigh
from semlink.channel.recording_files import read_recording
from semlink.channel.recordings import ChannelMatrices, SnrTrace, frequency_response
from semlink.source.iaq.coder import encode_with

pytestmark = pytest.mark.numeric

PIXELS = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
SCORES = np.random.default_rng(1).permutation(draw_importance(0))


def fading(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal(shape) + 1j * generator.standard_normal(shape)


def streams_of(seed):
    return lambda *of: np.random.default_rng(np.random.SeedSequence(seed, spawn_key=of))


def sent(channel, frame=0, start=0, method="ia-qsmpa"):
    """A frame planned for a channel and sent over it: the plan and what arrives."""
    state = channel.draw_state(streams_of(0), frame=frame, start=start)
    made = plan(
        SCORES,
        state.gains,
        channel.snr_met(state),
        method=method,
        numerology=channel.numerology,
        block_error_rate=channel.block_error_rate,
    )
    frame = encode_with(PIXELS, made.bits)
    return made, frame, channel.transmit(frame, made, state, streams_of(0)())


class TestMatrices:
    def test_the_mean_power_becomes_1_and_is_told_as_measured(self):
        found = ChannelMatrices(1e-4 * fading(3, 20, 2, 4))
        assert np.mean(np.abs(found.matrices) ** 2) == pytest.approx(1, rel=1e-9)
        assert found.mean_power_db == pytest.approx(-80 + 10 * np.log10(2), abs=0.5)
        assert (found.frames, found.subcarriers, found.antennas) == (3, 20, (2, 4))
        np.testing.assert_allclose(found.at(4) / found.at(1), 1)  # after the last comes the first

    @pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e200])
    def test_the_level_may_be_any(self, scale):
        found = ChannelMatrices(scale * np.ones((5, 1, 1), complex))
        np.testing.assert_allclose(found.matrices, 1)
        assert found.mean_power_db == pytest.approx(20 * np.log10(scale))

    def test_the_level_may_be_any_in_single_precision(self):
        found = ChannelMatrices(np.full((5, 1, 1), 3e38 + 3e38j, np.complex64))
        np.testing.assert_allclose(np.abs(found.matrices), 1, rtol=1e-6)

    def test_frames_keep_their_differences(self):
        found = ChannelMatrices(np.stack([np.full((4, 1, 1), 1 + 0j), np.full((4, 1, 1), 3 + 0j)]))
        assert abs(found.at(1) / found.at(0)).max() == pytest.approx(3)

    def test_the_rank_says_how_many_streams_it_carries(self):
        assert ChannelMatrices(fading(6, 3, 5)).rank == 3
        assert ChannelMatrices(np.ones((2, 6, 4, 4), complex)).rank == 1

    @pytest.mark.parametrize(
        ("matrices", "reason"),
        [
            (np.ones((4, 2, 2)), "must be complex, such as complex64, not float64"),
            (np.ones((4, 2), complex), r"must have shape \(frames, subcarriers, receive, transmit\)"),
            (np.ones((0, 4, 2, 2), complex), "must have shape"),
            (np.array([[[[1]], [[np.nan]]]], complex), "must be finite: frame 0"),
            (np.zeros((2, 1, 1), complex), "zero everywhere"),
            (np.stack([np.ones((2, 1, 1), complex), np.zeros((2, 1, 1))]), "zero everywhere: frame 1"),
            (np.stack([np.ones((2, 1, 1), complex), np.full((2, 1, 1), 1e-200)]), "zero everywhere: frame 1"),
            (np.broadcast_to(np.complex64(1), (65537, 1, 1)), r"subcarriers must be within \[1, 65536\]"),
            (np.broadcast_to(np.complex64(1), (784, 20, 20)), "at most 262144 entries"),
        ],
    )
    def test_what_is_no_channel_is_refused(self, matrices, reason):
        with pytest.raises(ValueError, match=reason):
            ChannelMatrices(matrices)


def test_taps_on_the_grid_are_the_discrete_fourier_transform():
    taps = fading(2, 5, 3, 2)
    found = frequency_response(taps, np.arange(5) / (64 * 15e3), subcarriers=64)
    expected = np.fft.fft(np.concatenate([taps, np.zeros((2, 59, 3, 2))], axis=1), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"delays": [0, 1e-3]}, r"delays must be within \[0, "),
        ({"delays": [-1e-9, 0]}, "delays must be within"),
        ({"delays": [0]}, "delays must be 2 numbers"),
        ({"delays": [0, np.nan]}, "delays must be finite"),
        ({"taps": np.ones((2, 1, 1))}, "taps must be complex"),
        ({"subcarriers": 0}, "subcarriers must be within"),
        ({"spacing_hz": 0.0}, "spacing_hz must be"),
    ],
)
def test_taps_that_make_no_sense_are_refused(changes, reason):
    good = {"taps": np.ones((2, 1, 1), complex), "delays": [0, 1e-7]}
    with pytest.raises(ValueError, match=reason):
        frequency_response(**(good | changes))


class TestFiles:
    def test_matrices_of_one_frame_or_more(self, tmp_path):
        matrices = fading(3, 20, 2, 4)
        np.save(tmp_path / "h.npy", np.asfortranarray(matrices))
        np.save(tmp_path / "one.npy", matrices[0].astype(np.complex64))
        np.savez_compressed(tmp_path / "h.npz", H=matrices, spacing_hz=30e3)
        found, one, packed = (read_recording(tmp_path / name) for name in ("h.npy", "one.npy", "h.npz"))
        np.testing.assert_array_equal(found.matrices, packed.matrices)
        np.testing.assert_allclose(found.matrices * 10 ** (found.mean_power_db / 20), matrices)
        assert (one.frames, one.matrices.dtype) == (1, np.complex64)
        assert (found.spacing_hz, packed.spacing_hz) == (15e3, 30e3)

    def test_taps_with_sample_rate_or_delays(self, tmp_path):
        taps = fading(2, 3, 2, 2)
        rate = 64 * 15e3
        np.savez(tmp_path / "rate.npz", taps=taps, sample_rate=rate, subcarriers=64)
        np.savez(tmp_path / "delays.npz", taps=taps, delays=np.arange(3) / rate, subcarriers=64)
        found, same = (read_recording(tmp_path / f"{name}.npz").matrices for name in ("rate", "delays"))
        np.testing.assert_allclose(found, same)
        ratio = found / frequency_response(taps, np.arange(3) / rate, subcarriers=64)
        np.testing.assert_allclose(ratio, ratio.flat[0])

    def test_a_trace_by_frame_or_by_time(self, tmp_path):
        (tmp_path / "frame.csv").write_text("frame, snr_db\n0,20\n2,-5.5\n")
        (tmp_path / "time.csv").write_bytes("\ufefftime,snr_db\r\n0.5,1\r\n\r\n0.75,2\r\n".encode())
        by_frame, by_time = (read_recording(tmp_path / f"{name}.csv") for name in ("frame", "time"))
        assert [by_frame.at(frame) for frame in range(4)] == [20, 20, -5.5, 20]
        assert [by_time.at(frame) for frame in range(3)] == [1, 2, 1]

    def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(self, tmp_path):
        path = tmp_path / "trace.csv"
        path.write_text("frame,snr_db\n0,20\n")
        first = read_recording(path)
        assert read_recording(path) is first
        path.write_text("frame,snr_db\n0,-20\n")
        assert read_recording(path).at(0) == -20

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "first line must be frame,snr_db or time,snr_db"),
            ("snr_db\n3\n", "first line must be"),
            ("frame,snr_db\n", "no rows"),
            ("frame,snr_db\n0,much\n", "line 2: it must be two numbers, not '0,much'"),
            ("frame,snr_db\n0,1,2\n", "line 2: it must be two numbers"),
            ("frame,snr_db\n0,nan\n", "line 2: its numbers must be finite"),
            ("frame,snr_db\n0,101\n", r"snr_db must be within \[-50, 100\]"),
            ("frame,snr_db\n1,3\n", "frames must begin with 0 and ascend"),
            ("frame,snr_db\n0,3\n0,4\n", "frames must begin with 0 and ascend"),
            ("frame,snr_db\n0.5,3\n", "frame must be integers"),
            ("time,snr_db\n2,3\n1,4\n", "time must ascend"),
            ('frame,snr_db\n0,"3\n', "line"),
            (f"frame,snr_db\n0,{'9' * 200_000}\n", "field larger than field limit"),
            (b"frame,snr_db\n0,\xff\n", "not text in UTF-8"),
        ],
    )
    def test_a_trace_that_is_none_is_refused_by_line(self, tmp_path, text, reason):
        (tmp_path / "trace.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ValueError, match=rf"^channel file .*trace\.csv: .*{reason}"):
            read_recording(tmp_path / "trace.csv")

    def test_nothing_in_a_file_is_executed(self, tmp_path):
        class Attack:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "executed"),)

        objects = np.array([Attack()], object)
        np.save(tmp_path / "pickle.npy", objects)
        np.savez(tmp_path / "pickle.npz", H=objects)
        (tmp_path / "raw.npy").write_bytes(pickle.dumps(Attack()))
        for name, reason in (
            ("pickle.npy", "Python objects"),
            ("pickle.npz", "Python objects"),
            ("raw.npy", "format"),
        ):
            with pytest.raises(ValueError, match=reason):
                read_recording(tmp_path / name)
        assert not (tmp_path / "executed").exists()

    def test_sizes_are_checked_before_room_is_made(self, tmp_path, monkeypatch):
        header = io.BytesIO()
        about = {"descr": "<c8", "fortran_order": False, "shape": (10**6, 784, 4, 4)}
        np.lib.format.write_array_header_1_0(header, about)
        (tmp_path / "huge.npy").write_bytes(header.getvalue())
        with zipfile.ZipFile(tmp_path / "header.npz", "w") as archive:
            archive.writestr("H.npy", header.getvalue())
        about["shape"] = (3, 4, 1, 1)
        header.seek(0)
        np.lib.format.write_array_header_1_0(header, about)
        (tmp_path / "short.npy").write_bytes(header.getvalue() + bytes(17))
        monkeypatch.setattr(recording_files, "MAX_BYTES", 1 << 20)
        with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("H.npy", bytes(1 << 21))
        with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
            for number in range(17):
                archive.writestr(f"{number}.npy", b"")
        np.savez(tmp_path / "taps.npz", taps=np.ones((200, 1, 1, 1), complex), sample_rate=12e6)
        with zipfile.ZipFile(tmp_path / "lzma.npz", "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("H.npy", b"")
        for name, reason in (
            ("huge.npy", "at most 1 MiB"),
            ("header.npz", "at most 1 MiB"),
            ("bomb.npz", "it takes 2 MiB, at most 1 MiB"),
            ("many.npz", "at most 16 arrays"),
            ("taps.npz", "at most 1 MiB"),
            ("short.npy", "says that it has 96 bytes, and has 17"),
            ("lzma.npz", "numpy.savez"),
        ):
            with pytest.raises(ValueError, match=reason):
                read_recording(tmp_path / name)

    @pytest.mark.parametrize(
        ("arrays", "reason"),
        [
            ({}, "must have the keys H"),
            ({"h": np.ones(1)}, "must have the keys H"),
            ({"H": np.ones((2, 1, 1), complex), "delays": [0]}, "must have the keys H"),
            ({"H": np.ones((2, 1, 1), complex), "spacing_hz": -1}, "spacing_hz must be one number above 0"),
            ({"H": np.ones((2, 1, 1), complex), "spacing_hz": "15"}, "spacing_hz must be one number above 0"),
            ({"H": np.ones(3, [("a", "<f8")])}, "must be complex"),
            ({"taps": np.ones((2, 1, 1), complex)}, "taps need sample_rate"),
            (
                {"taps": np.ones((2, 1, 1), complex), "sample_rate": 1e6},
                "take 1.176e.07 Hz, more than the sample_rate",
            ),
            ({"taps": np.ones(3, complex), "sample_rate": 2e7}, "taps must have shape"),
            (
                {"taps": np.ones((2, 1, 1), complex), "delays": [0, 0], "subcarriers": 1.5},
                "subcarriers must be an integer",
            ),
        ],
    )
    def test_keys_are_explained(self, tmp_path, arrays, reason):
        np.savez(tmp_path / "file.npz", **arrays)
        with pytest.raises(ValueError, match=reason):
            read_recording(tmp_path / "file.npz")

    def test_what_is_no_such_file_is_refused(self, tmp_path):
        (tmp_path / "h.mat").write_bytes(b"")
        (tmp_path / "h.npz").write_bytes(b"PK\x03\x04 broken")
        (tmp_path / "h.npy").write_bytes(b"\x93NUMPY\x01\x00\xff\xff{")
        (tmp_path / "header.npy").write_bytes(b"\x93NUMPY\x01\x00\x03\x00{(\n")
        (tmp_path / "folder.npy").mkdir()
        for name, reason in (
            ("nowhere.npy", "No such file"),
            ("h.mat", "must end in .npy"),
            ("h.npz", "written|savez"),
            ("h.npy", "no array in NumPy's format"),
            ("header.npy", "no array in NumPy's format"),
            ("folder.npy", "it is no file"),
        ):
            with pytest.raises(ValueError, match=rf"^channel file .*{name}: .*{reason}"):
                read_recording(tmp_path / name)


class TestChannels:
    @pytest.mark.parametrize("kind_of_file", ["h.npy", "taps.npz"])
    def test_a_file_of_the_built_in_draw_gives_the_same_arrivals(self, tmp_path, kind_of_file):
        drawn = draw_channel(Numerology(), streams_of(0)(0, 0))
        path = tmp_path / kind_of_file
        if kind_of_file == "h.npy":
            np.save(path, drawn)
        else:  # its impulse response, which is as long as an OFDM symbol
            np.savez(path, taps=np.fft.ifft(drawn, axis=0), sample_rate=784 * 15e3)
        level = 10 * np.log10(np.mean(np.abs(drawn) ** 2))
        for kind, options in (
            (MimoOfdm, {"coding": "uncoded"}),
            (MimoOfdm, {"csi_error": 0.0}),
            (FiniteBlocklength, {"target_bler": 0.1}),
        ):
            made, _, arrival = sent(kind(snr_db=12.0, **options))
            # The file's level is 1, not that of this draw, and the SNR makes up for it.
            same, _, measured = sent(kind(snr_db=12.0 + level, channel_file=path, **options))
            np.testing.assert_array_equal(same.block_of_subchannel, made.block_of_subchannel)
            np.testing.assert_array_equal(same.bits, made.bits)
            np.testing.assert_allclose(same.power, made.power, rtol=1e-9)
            np.testing.assert_allclose(measured.seconds, arrival.seconds, rtol=1e-9)
            np.testing.assert_array_equal(measured.lost, arrival.lost)
            assert np.setxor1d(measured.flips, arrival.flips).size <= 2  # on the edge between two symbols
            assert (arrival.flips.size > 100) == (options.get("coding") == "uncoded")

    def test_a_flat_channel_of_one_antenna_is_white_noise_at_the_same_snr(self, tmp_path):
        np.save(tmp_path / "flat.npy", np.full((784, 1, 1), 0.3j))
        channel = MimoOfdm(channel_file=tmp_path / "flat.npy", coding="uncoded", order=16, snr_db=12.0)
        made, frame, arrival = sent(channel, method="fixed")
        assert made.numerology == Numerology(784, 1, 15e3, 784.0)
        np.testing.assert_allclose(made.power, 1)
        plain = Awgn(order=16, snr_db=12.0).transmit(frame, None, None, streams_of(0)())
        np.testing.assert_array_equal(arrival.flips, plain.flips)
        assert plain.flips.size > 1000

    def test_frames_meet_the_matrices_in_turn_and_the_last_leads_to_the_first(self, tmp_path):
        matrices = fading(3, 200, 2, 3)
        np.save(tmp_path / "h.npy", matrices)
        channel = MimoOfdm(channel_file=tmp_path / "h.npy")
        met = [channel.draw_state(streams_of(0), frame=frame, start=2).at(0) for frame in range(4)]
        scale = met[1] / matrices[0]
        np.testing.assert_allclose(scale, scale.flat[0])
        for state, number in zip(met, (2, 0, 1, 2), strict=True):
            np.testing.assert_allclose(state, scale.flat[0] * matrices[number])

    def test_a_redrawn_channel_goes_on_to_the_next_matrices(self, tmp_path):
        np.save(tmp_path / "h.npy", fading(4, 200, 2, 2))
        channel = MimoOfdm(channel_file=tmp_path / "h.npy", redraw_every_coherence=True)
        state = channel.draw_state(streams_of(0), frame=1)
        np.testing.assert_array_equal(state.at(2), channel.draw_state(streams_of(0), frame=3).at(0))
        assert (sent(channel, frame=1)[2].seconds > 0).all()

    def test_streams_are_at_most_what_the_file_carries(self, tmp_path):
        np.save(tmp_path / "h.npy", fading(200, 6, 2))
        np.save(tmp_path / "sight.npy", np.ones((200, 4, 4), complex))
        assert MimoOfdm(channel_file=tmp_path / "h.npy").numerology.streams == 2
        assert MimoOfdm(channel_file=tmp_path / "h.npy", streams=1).numerology.streams == 1
        assert MimoOfdm(channel_file=tmp_path / "sight.npy").numerology.streams == 1
        with pytest.raises(ValueError, match=r"streams must be at most 2, as H of .* over 6 × 2 antennas, not 3"):
            MimoOfdm(channel_file=tmp_path / "h.npy", streams=3)

    @pytest.mark.parametrize("kind", [Awgn, Rayleigh])
    def test_the_snr_of_a_trace_is_that_of_each_frame(self, tmp_path, kind):
        (tmp_path / "trace.csv").write_text("frame,snr_db\n0,3\n1,9\n")
        channel, bits = kind(channel_file=tmp_path / "trace.csv"), RawBits(bytes(5000))
        for frame, snr_db in enumerate((3.0, 9.0, 3.0)):
            state = channel.draw_state(streams_of(0), frame=frame, start=1)
            arrival = channel.transmit(bits, None, state, streams_of(frame)())
            expected = kind(snr_db=snr_db).transmit(bits, None, None, streams_of(frame)())
            np.testing.assert_array_equal(arrival.flips, expected.flips)
        with pytest.raises(ValueError, match="takes the state that draw_state gives"):
            channel.transmit(bits, None, None, streams_of(0)())

    def test_a_trace_is_the_snr_of_a_planned_channel_too(self, tmp_path):
        (tmp_path / "trace.csv").write_text("frame,snr_db\n0,20\n1,5\n")
        channel = MimoOfdm(channel_file=tmp_path / "trace.csv")
        for frame, snr_db in enumerate((20.0, 5.0)):
            made, _, arrival = sent(channel, frame)
            expected, _, same = sent(MimoOfdm(snr_db=snr_db))
            np.testing.assert_array_equal(made.power, expected.power)
            np.testing.assert_array_equal(arrival.seconds, same.seconds)

    def test_what_does_not_go_with_a_file_is_refused(self, tmp_path):
        (tmp_path / "trace.csv").write_text("frame,snr_db\n0,3\n")
        np.save(tmp_path / "h.npy", fading(200, 2, 2))
        with_trace = (kind(channel_file=tmp_path / "trace.csv") for kind in (Awgn, MimoOfdm, FiniteBlocklength))
        assert all("snr_db" in channel.idle for channel in with_trace)
        assert "snr_db" not in MimoOfdm(channel_file=tmp_path / "h.npy").idle
        with pytest.raises(ValueError, match="has H, which is for mimo-ofdm and finite-blocklength"):
            Rayleigh(channel_file=tmp_path / "h.npy")
        with pytest.raises(ValueError, match="No such file"):
            MimoOfdm(channel_file=tmp_path / "nowhere.npy")

    def test_another_process_reads_the_file_itself(self, tmp_path):
        np.save(tmp_path / "h.npy", fading(200, 8, 8))
        channel = MimoOfdm(channel_file=tmp_path / "h.npy")
        pickled = pickle.dumps(channel)
        assert len(pickled) < 1000
        assert pickle.loads(pickled) == channel
        np.testing.assert_array_equal(pickle.loads(pickled).recording.matrices, channel.recording.matrices)


def test_a_trace_of_one_value_a_frame():
    trace = SnrTrace(np.array([1.0, 2.0]))
    assert [trace.at(frame) for frame in (0, 1, 2**64 + 1)] == [1, 2, 2]
