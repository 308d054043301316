"""Links that the studio compares: what each meets, equal bits, and which committed curve is theirs."""

import pytest

from semlink.source.iaq.coder import HEADER_BITS
from semlink.source.transformer_aided.coder import TOKEN_VALUES
from semlink.source.transformer_aided.quantizer import Scales
from semlink.vision import token_decoder
from studio.comparison import SIDES, ComparisonError, channel_of, compare, curve_of, end_of
from studio.curves import curves
from studio.link_settings import LinkSettings

BSC = {"type": "bsc", "ber": 0.05, "access": "none", "design_ber": None}
AWGN = {"type": "awgn", "snr_db": 10.0, "order": 16, "access": "qam", "cbr": "1/8"}
MIMO = {"type": "mimo_ofdm", "snr_db": 20.0}


@pytest.mark.parametrize(
    ("link", "met", "expected"),
    [
        ("as set", BSC, BSC),
        ("avif behind LDPC", BSC, BSC | {"access": "ldpc"}),
        ("avif", BSC | {"access": "ldpc"}, BSC),
        ("avif", AWGN | {"access": "ldpc"}, AWGN),
        ("avif behind LDPC", AWGN, AWGN | {"access": "ldpc"}),
        ("iaq behind LDPC", AWGN | {"type": "rayleigh"}, AWGN | {"type": "rayleigh", "access": "ldpc"}),
        ("avif", MIMO, MIMO),
    ],
)
def test_links_meet_the_channel_as_it_is_but_for_their_access(link, met, expected):
    assert channel_of(SIDES[link], met) == expected


def test_no_codes_are_where_the_channel_has_none():
    with pytest.raises(ComparisonError, match=r"mimo-ofdm has no LDPC codes: take one of awgn, bsc, burst,"):
        channel_of(SIDES["avif behind LDPC"], MIMO)


@pytest.mark.parametrize("name", SIDES)
def test_every_link_can_be_set_whatever_was_set_before(name):
    for before in (
        LinkSettings(),
        LinkSettings(source="codec", policy="ask"),
        LinkSettings(total_bits=50_000),
        LinkSettings(method="attention-threshold", threshold=0.01),
    ):
        end_of(before, BSC, name)


class Air:
    """Sends views in numbers: as many bits as a frame of each coder has, times what its code adds."""

    def __init__(self, parity=1.0, most=10**9):
        self.parity, self.most, self.sent = parity, most, []

    async def __call__(self, link, impairment):
        told = link.coding
        bits = {
            "iaq": told.get("total_bits") or HEADER_BITS + int(8 * 150_528 * told.get("rho", 0)),
            "codec": 8 * told.get("budget_bytes", 0),
            "learned": 301_300,
            "transformer-aided": 400 + 192 * told.get("token_bits", 0) * int(196 * told.get("ratio", 0) + 1e-6),
        }[link.source]
        if link.policy != "all":
            bits = 128
        bits = min(bits, self.most if link.source == "codec" else 10**9)
        spent = int(bits * (self.parity if impairment.get("access") == "ldpc" else 1))
        self.sent.append((link.source, spent))
        return {"bits_on_air": {"uplink": spent}, "model": "m"}


async def compared(left, right, *, base=None, met=BSC, equal_bits=True, air=None):
    air = air or Air()
    return await compare(base or LinkSettings(), met, (left, right), air, equal_bits=equal_bits), air


def bits_of(answer):
    return [answer[side]["bits_on_air"]["uplink"] for side in ("left", "right")]


@pytest.mark.parametrize("parity", [1.0, 1.7, 3.0])
@pytest.mark.parametrize("right", ["fixed", "iaq behind LDPC", "avif behind LDPC", "transformer-aided"])
async def test_the_right_link_meets_the_lefts_bits(right, parity):
    answer, air = await compared("as set", right, air=Air(parity))
    left, spent = bits_of(answer)
    assert left == HEADER_BITS + 301_056  # as it was set
    assert 0.97 * left <= spent <= left
    assert answer["bits"]["equal"]
    assert "the right link meets the other's" in answer["bits"]["note"]
    assert len(air.sent) <= 5


async def test_the_left_link_meets_bits_that_are_fixed():
    answer, air = await compared("iaq", "learned")
    assert bits_of(answer) == pytest.approx([301_300, 301_300], rel=0.03)
    assert air.sent[0][0] == "learned"
    assert "the left link meets the other's" in answer["bits"]["note"]


async def test_the_left_link_meets_the_most_that_the_right_one_has():
    answer, _ = await compared("iaq", "avif", air=Air(most=170_000))
    assert bits_of(answer) == pytest.approx([170_000, 170_000], rel=0.03)
    assert "the left link meets the other's" in answer["bits"]["note"]


async def test_why_bits_differ_is_said():
    answer, _ = await compared("learned", "ask")
    assert not answer["bits"]["equal"]
    assert "neither link has a budget (left: learned bits are as many" in answer["bits"]["note"]
    assert "right: under the policy ask the server chooses" in answer["bits"]["note"]
    answer, air = await compared("learned", "avif", air=Air(most=170_000))
    assert "these are the most that avif, right, has near them" in answer["bits"]["note"]
    assert len(air.sent) == 3  # once it came no nearer, no more
    answer, _ = await compared("ask", "iaq")
    assert "these are the fewest that iaq, right, has" in answer["bits"]["note"]
    answer, air = await compared("iaq", "avif", equal_bits=False)
    assert answer["bits"] == {"equal": False, "note": answer["bits"]["note"]}
    assert "as was wanted" in answer["bits"]["note"]
    assert len(air.sent) == 2


async def test_plans_keep_to_a_ratio():
    answer, _ = await compared("transformer-aided", "iaq", base=LinkSettings(ratio=1, token_bits=8), met=MIMO)
    assert answer["bits"]["equal"]
    assert answer["left"]["over"] == "mimo-ofdm"
    answer, _ = await compared("transformer-aided", "iaq", met=MIMO)  # plans need ρ = 1/8: the left has more bits
    assert answer["bits"]["equal"]
    assert bits_of(answer) == pytest.approx([151_432, 151_432], rel=0.03)


async def test_a_plan_that_has_no_effect_over_the_channel_forbids_nothing():
    answer, _ = await compared("water-filling", "iaq", base=LinkSettings(plan="exact"))
    assert answer["bits"]["equal"]
    answer, _ = await compared("avif", "iaq", base=LinkSettings(source="codec", plan="exact"))
    assert answer["bits"]["equal"]


async def test_a_channel_that_is_not_known_here_is_refused():
    with pytest.raises(ComparisonError, match="a channel that is not known here, moonbounce"):
        await compared("iaq", "fixed", met={"type": "moonbounce"})


def test_to_meet_bits_changes_nothing_of_the_picture():
    end = end_of(LinkSettings(source="codec", side=64), BSC, "as set")
    assert end.with_budget(8_000) == end.link.changed({"budget_bytes": 1000})


def test_values_of_a_token_are_those_of_the_shipped_models():
    folder = token_decoder.TOKEN_DECODER
    assert Scales.read(folder / token_decoder.SCALES_NAME).dimension == TOKEN_VALUES


async def test_places_on_curves_are_of_the_channel_that_is_met():
    over = {}
    for met in (BSC, AWGN, MIMO, {"type": "packet_loss"}, {"type": "none"}):
        answer, _ = await compared("fixed", "top-k", met=met)
        over[met["type"]] = answer["left"]["ber"]
    assert over["bsc"] == 0.05
    assert over["awgn"] == pytest.approx(0.058, abs=0.002)  # 16-QAM at 10 dB
    assert over["mimo_ofdm"] is over["packet_loss"] is None
    assert over["none"] == 0


def test_curves_are_those_that_were_committed():
    found = {(curve["method"], curve["ber"]): curve["points"] for curve in curves()}
    assert [round(point["bits"]) for point in found["incremental", 0.05]] == [76168, 151432, 301960, 603016]
    assert all(point["low"] <= point["accuracy"] <= point["high"] for curve in found.values() for point in curve)
    for link, met, name in (("fixed", BSC, "fixed"), ("avif behind LDPC", BSC | {"access": "ldpc"}, "avif-ldpc")):
        assert curve_of(end_of(LinkSettings(), BSC, link).link, met) == name
        assert any(method == name for method, _ in found)
    for other in ({"gamma": 2.0}, {"design_ber": 0.05}, {"source": "codec"}):  # 160 pixels: not what was measured
        assert curve_of(LinkSettings().changed(other), BSC) == ""
    assert curve_of(LinkSettings().changed({"policy": "ask"}), BSC) == "ask"
    for access in ("ldpc-qam", "learned"):  # these bits err otherwise than those that were measured
        assert curve_of(LinkSettings(), AWGN | {"access": access}) == ""
