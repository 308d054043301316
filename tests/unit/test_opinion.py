"""Opinion, frame profile 3: what a belief loses on its way, and what is no opinion."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from golden_files import assert_no_others, write_anew
from hostile_frames import mutated, mutated_header, read_or_refused
from hypothesis import given
from hypothesis import strategies as st

from experiments.opinion_bits import told
from semlink.decision.belief import Belief
from semlink.frame import FrameError
from semlink.source.opinion import CODE_BITS, MOST_CLASSES, OpinionFrame, opinion_frame
from semlink.source.registry import coder_of, read_frame, source_coders

pytestmark = pytest.mark.numeric

GOLDEN = Path(__file__).parents[1] / "golden" / "opinion"
CASES = {
    "five": Belief(np.array([281, 282, 285, 287, 0]), np.array([0.5, 0.25, 0.125, 0.01, 0.005]), 1000),
    "sure": Belief(np.array([1023, 5, 4, 3, 2]), np.array([0.9999, 4e-5, 3e-5, 1e-5, 1e-5]), 1024),
    "even": Belief.of(np.full(1000, 1e-3)),
    "two": Belief.of([0.4, 0.6]),
    "one": Belief(np.array([0]), np.array([0.2]), 7),
}
FIRST = bytes.fromhex("534c 0103")
"""Magic, version and profile."""


def sealed(fields: bytes, payload: bytes = b"") -> bytes:
    header = FIRST + fields
    return header + zlib.crc32(header).to_bytes(4) + payload


@st.composite
def frames(draw: st.DrawFn) -> OpinionFrame:
    labels = draw(st.lists(st.integers(0, 1023), min_size=1, max_size=MOST_CLASSES, unique=True))
    codes = [draw(st.integers(0, 2**bits - 1)) for bits in CODE_BITS[: len(labels)]]
    return OpinionFrame(tuple(labels), tuple(codes))


@st.composite
def beliefs(draw: st.DrawFn) -> Belief:
    """Of any shape: some sure of one class, some of none, of two classes or of a thousand."""
    classes = draw(st.integers(2, 1024))
    logits = np.random.default_rng(draw(st.integers(0, 2**32))).normal(0, draw(st.floats(0, 9)), classes)
    exponentials = np.exp(logits - logits.max()) + 1e-12
    return Belief.of(exponentials / exponentials.sum(), draw(st.integers(1, 8)))


def as_documented(frame: OpinionFrame) -> str:
    """The fields in bits, written down as the module's docstring says."""
    labels = [*frame.labels, *[frame.labels[0]] * (5 - len(frame.labels))]
    codes = [*frame.codes, *[0] * (5 - len(frame.codes))]
    return "".join(f"{label:010b}" for label in labels) + "".join(
        f"{code:0{bits}b}" for bits, code in zip((5, 4, 2, 2, 1), codes, strict=True)
    )


@given(frames())
def test_sixteen_bytes_as_documented(frame):
    data = frame.to_bytes()
    assert len(data) == 16
    assert f"{int.from_bytes(data[4:12]):064b}" == as_documented(frame)
    again = read_frame(data)
    assert isinstance(again, OpinionFrame)
    assert (again.labels, again.codes, again.payload) == (frame.labels, frame.codes, b"")


@given(frames())
def test_what_is_said_is_a_belief_and_said_again_alike(frame):
    belief = frame.belief(1024)
    assert belief.labels.tolist() == list(frame.labels)
    assert belief.probabilities.sum() < 1
    assert opinion_frame(belief).to_bytes() == frame.to_bytes()


@given(beliefs())
def test_each_probability_is_off_by_half_a_cell_of_the_most_that_it_can_be(belief):
    said = opinion_frame(belief).belief(belief.classes)
    named = said.labels.size
    assert named == min(belief.labels.size, MOST_CLASSES)
    assert said.labels.tolist() == belief.labels[:named].tolist()
    first, found = belief.probabilities[0], said.probabilities[0]
    assert abs(np.sqrt(1 - first) - np.sqrt(1 - found)) <= 1 / 64 + 1e-9
    for place in range(1, named):
        before = said.probabilities[:place]
        most = min(before[-1], 1 - before.sum())
        wanted = min(belief.probabilities[place], most)
        assert abs(wanted - said.probabilities[place]) <= most / 2 ** (CODE_BITS[place] + 1) + 1e-9


@given(beliefs())
def test_is_told_as_the_table_of_losses_has_it(belief):
    """docs/results/opinion-bits: written apart, in terms of arrays."""
    wanted = belief.probabilities[:MOST_CLASSES]
    said = opinion_frame(belief).belief(belief.classes).probabilities
    np.testing.assert_allclose(said, told(wanted, CODE_BITS[: wanted.size], fine=True), rtol=1e-9)


def test_shape_and_size_are_those_of_a_picture_without_payload():
    frame = opinion_frame(Belief.of([0.7, 0.2, 0.1]))
    assert (frame.shape, frame.payload_bits, frame.header_bits, frame.rho) == ((224, 224, 3), 0, 128, 0)
    assert frame.true_ratio == 16 / (224 * 224 * 3)
    assert frame.importance.size == 0
    assert frame.without([]) is frame
    assert frame.with_payload(b"").to_bytes() == frame.to_bytes()
    with pytest.raises(ValueError, match="segments"):
        frame.without([0])
    with pytest.raises(FrameError, match="1 bytes"):
        frame.with_payload(b"\0")


def test_no_source_coder_makes_or_reads_one():
    assert OpinionFrame.profile not in {coder.frame_type.profile for coder in source_coders()}
    with pytest.raises(ValueError, match="no source coder makes a picture of frames of profile 3"):
        coder_of(opinion_frame(Belief.of([0.7, 0.3])))


def test_a_class_that_the_model_has_not_is_refused():
    frame = OpinionFrame((3, 8), (31, 15))
    assert frame.belief(9).label == 3
    with pytest.raises(FrameError, match="names class 8 of a model of 8 classes") as refused:
        frame.belief(8)
    assert refused.value.reason == "label"


def test_a_class_that_ten_bits_cannot_tell_is_refused():
    with pytest.raises(FrameError, match=r"within 0\.\.1023"):
        opinion_frame(Belief(np.array([1024]), np.array([0.5]), 2000))


@pytest.mark.parametrize(
    ("labels", "codes", "what"),
    [
        ((), (), "names 1 to 5"),
        ((1, 2, 3, 4, 5, 6), (0,) * 6, "names 1 to 5"),
        ((1, 2), (0,), "each with its probability"),
        ((1, 2, 1), (0, 0, 0), "each class once"),
        ((-1,), (0,), "within"),
        ((1,), (32,), "bits"),
        ((1, 2, 3, 4, 5), (0, 0, 0, 0, 2), "bits"),
    ],
)
def test_what_is_no_opinion_is_refused(labels, codes, what):
    with pytest.raises(FrameError, match=what) as refused:
        OpinionFrame(labels, codes)
    assert refused.value.reason == "label"


@pytest.mark.parametrize(
    ("labels", "codes"),
    [
        ((7, 7, 8, 7, 7), (1, 0, 0, 0, 0)),  # a class behind the last one
        ((7, 8, 8, 7, 7), (1, 1, 0, 0, 0)),  # one twice
        ((7, 7, 7, 7, 7), (1, 1, 0, 0, 0)),  # a probability of no class
    ],
)
def test_fields_of_no_opinion_are_refused(labels, codes):
    number = int("".join(f"{label:010b}" for label in labels), 2)
    for bits, code in zip(CODE_BITS, codes, strict=True):
        number = number << bits | code
    with pytest.raises(FrameError) as refused:
        read_frame(sealed(number.to_bytes(8)))
    assert refused.value.reason == "label"


def test_a_payload_is_refused():
    with pytest.raises(FrameError) as refused:
        read_frame(opinion_frame(Belief.of([0.7, 0.3])).to_bytes() + b"\0")
    assert refused.value.reason == "payload_length"


@given(frames(), st.integers(0, 127))
def test_no_inverted_bit_is_believed(frame, place):
    data = int.from_bytes(frame.to_bytes()) ^ 1 << place
    with pytest.raises(FrameError):
        read_frame(data.to_bytes(16))


def contents(frame: OpinionFrame) -> dict[str, np.ndarray]:
    return {
        "labels": np.array(frame.labels),
        "codes": np.array(frame.codes),
        "probabilities": frame.belief(1024).probabilities,
    }


@pytest.fixture(scope="module")
def regenerated(request: pytest.FixtureRequest) -> None:
    """See tests/unit/test_golden.py."""
    made = ((name, opinion_frame(belief)) for name, belief in CASES.items())
    write_anew(request, GOLDEN, ((name, frame.to_bytes(), contents(frame)) for name, frame in made))


@pytest.mark.usefixtures("regenerated")
class TestGolden:
    @pytest.mark.parametrize("name", CASES)
    def test_stays_as_it_is(self, name):
        data = (GOLDEN / f"{name}.bin").read_bytes()
        assert opinion_frame(CASES[name]).to_bytes() == data
        with np.load(GOLDEN / f"{name}.npz") as golden:
            found = contents(OpinionFrame.from_bytes(data))
            assert set(golden) == set(found)
            for key, value in found.items():
                np.testing.assert_array_equal(value, golden[key], err_msg=key, strict=True)

    def test_no_file_without_a_case(self):
        assert_no_others(GOLDEN, CASES)


class TestHostile:
    @given(st.binary(max_size=40))
    def test_anything(self, data):
        read_or_refused(OpinionFrame, data)

    @given(st.binary(min_size=8, max_size=8))
    def test_any_fields_behind_a_right_crc(self, fields):
        """What is taken is taken as it is: written again, it is the same."""
        labels = [int.from_bytes(fields) >> 54 - 10 * place & 1023 for place in range(MOST_CLASSES)]
        if len(set(labels)) < MOST_CLASSES:
            read_or_refused(OpinionFrame, sealed(fields))
        else:
            frame = OpinionFrame.from_bytes(sealed(fields))
            assert frame.to_bytes() == sealed(fields)
            assert frame.belief(1024).labels.tolist() == labels

    @given(frames(), st.data())
    def test_mutated(self, frame, data):
        read_or_refused(OpinionFrame, data.draw(mutated(frame.to_bytes())))

    @given(frames(), st.data())
    def test_mutated_headers_behind_a_right_crc(self, frame, data):
        header = data.draw(mutated_header(frame))
        read_or_refused(OpinionFrame, header + zlib.crc32(header).to_bytes(4))
