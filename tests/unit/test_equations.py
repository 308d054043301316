"""Notations of knobs: equations in plain text as MathML, and against the code that they are of."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated
from xml.etree import ElementTree

import numpy as np
import pytest

import studio.knobs
from semlink.access.hard_decisions import code_rate
from semlink.access.symbol_link import SymbolLink
from semlink.channel.burst import GilbertElliott
from semlink.channel.ofdm import Numerology
from semlink.channel.plan import Plan
from semlink.channel.qam import bits_per_symbol
from semlink.channel.rates import bit_error_rate, dispersion_penalty, finite_blocklength_rate
from semlink.parameters import Notation, Option
from semlink.source.iaq.coder import HEADER_BITS, encode
from semlink.source.iaq.distortion import one_error_bound
from semlink.source.iaq.importance import importance_weights
from semlink.source.transformer_aided.selection import select
from studio.equations import MOST_CHARACTERS, MOST_DEPTH, TAGS, EquationError, elements, parse
from studio.knobs import knobs
from studio.link_settings import LinkSettings

LISTED = knobs()
KNOBS = {knob["name"]: knob for group in LISTED["groups"] for knob in group["knobs"]}
OF_CHANNELS = {
    (channel["type"], knob["name"]): knob for channel in LISTED["channels"] for knob in channel["knobs"]
}
EVERY = {("link", name): knob for name, knob in KNOBS.items()} | OF_CHANNELS
NO_SYMBOL = {"selection_seed": "a name of randomness"}
NO_EQUATION = {"selection_seed": "as above", "every": "a pace"}


def xml(element):
    """An element as text, each tag one of those that pages take."""
    tag, *content = element
    assert tag in TAGS
    inner = "".join(xml(each) if isinstance(each, list) else each.replace("<", "&lt;") for each in content)
    return f"<{tag}>{inner}</{tag}>"


@pytest.mark.parametrize("where", EVERY, ids="-".join)
def test_every_numeric_knob_has_its_symbol_and_equation_or_none_for_a_reason(where):
    knob = EVERY[where]
    if knob["kind"] in ("whole", "number"):
        assert bool(knob["symbol"]) != (knob["name"] in NO_SYMBOL)
        assert bool(knob["equation"]) != (knob["name"] in NO_EQUATION)
    for element in knob["symbol"] + knob["equation"]:
        assert element[0] != "mtext", "the text could not be read"
        ElementTree.fromstring(f"<math>{xml(element)}</math>")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("N_s", ["msub", ["mi", "N"], ["mi", "s"]]),
        ("4/3 μ", ["mrow", ["mfrac", ["mn", "4"], ["mn", "3"]], ["mi", "μ"]]),
        ("(a)/(b c)", ["mfrac", ["mi", "a"], ["mrow", ["mi", "b"], ["mi", "c"]]]),
        ("4^-M", ["msup", ["mn", "4"], ["mrow", ["mo", "−"], ["mi", "M"]]]),
        ("∑_i x", ["mrow", ["munder", ["mo", "∑"], ["mi", "i"]], ["mi", "x"]]),
        ("σ_e^2", ["msubsup", ["mi", "σ"], ["mi", "e"], ["mn", "2"]]),
        ("√x", ["msqrt", ["mi", "x"]]),
        ('"<b>"', ["mtext", "<b>"]),
    ],
)
def test_plain_text_becomes_mathml(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["a = (", "a)", "", "a ^", "x" * (MOST_CHARACTERS + 1), "(" * (MOST_DEPTH + 1), "√" * 900, "a _ _", "|a"],
)
def test_what_is_no_equation_is_shown_as_it_is(text):
    with pytest.raises(EquationError):
        parse(text)
    assert elements(text) in ([["mtext", text]], [])


def test_hostile_text_is_an_equation_or_shown_as_it_is():
    generator = np.random.default_rng(0)
    signs = list('ab1_^/√∑()|⌊⌈=,+-"<&\u0303')
    for _ in range(2000):
        text = "".join(generator.choice(signs, generator.integers(1, 60)))
        for element in elements(text):
            xml(element)


class Evaluated:
    """Values of equations, by the rules that a reader goes by: names side by side are multiplied."""

    def __init__(self, **names):
        self.names = names | {"ln": math.log, "max": max, "log_2": np.log2}

    def of(self, where, line=0, part=0):
        """The value right of the `part`-th = of an equation."""
        row = self._parts(EVERY[where]["equation"][line])
        ends = [at for at, each in enumerate(row) if each == ["mo", "="]]
        stops = [
            at for at, each in enumerate(row) if each[0] == "mo" and each[1] in ("=", "≤", ",") and at > ends[part]
        ]
        return self.value(["mrow", *row[ends[part] + 1 : min(stops, default=len(row))]])

    @staticmethod
    def _parts(element):
        return element[1:] if element[0] == "mrow" else [element]

    def value(self, element):
        tag, *content = element
        match tag:
            case "mn":
                return float(content[0])
            case "mi":
                return self.names[content[0]]
            case "mfrac":
                return self.value(content[0]) / self.value(content[1])
            case "msqrt":
                return math.sqrt(self.value(content[0]))
            case "msup" if content == [["mi", "Q"], ["mrow", ["mo", "−"], ["mn", "1"]]]:
                return lambda x: -NormalDist().inv_cdf(x)
            case "msup":
                return self.value(content[0]) ** self.value(content[1])
            case "msub":
                return self.names[f"{content[0][1]}_{content[1][1]}"]
        if content[0] == ["mo", "("]:
            return self.value(["mrow", content[1]])
        if content[0] == ["mo", "⌊"]:
            return math.floor(self.value(content[1]) + 1e-9)
        if content[0] == ["mo", "⌈"]:
            return math.ceil(self.value(content[1]) - 1e-9)
        if ["mo", ","] in content:
            at = content.index(["mo", ","])
            return self.value(["mrow", *content[:at]]), self.value(["mrow", *content[at + 1 :]])
        if any(each in (["mo", "+"], ["mo", "−"]) for each in content):
            return self._sum(content)
        return self._product(content)

    def _sum(self, content):
        total, sign = 0.0, 1
        for each in content:
            if each[0] == "mo":
                sign = 1 if each[1] == "+" else -1
            else:
                total += sign * self.value(each)
        return total

    def _product(self, content):
        first, *rest = content
        if first == ["munder", ["mo", "∑"], ["mi", "i"]]:
            return sum(Evaluated(**self.names | {"M_i": bits})._product(rest) for bits in self.names["M"])
        value = self.value(first)
        if callable(value):
            argument, *rest = rest
            given = self.value(argument)
            value = value(*given) if isinstance(given, tuple) else value(given)
        return value * self._product(rest) if rest else value


def test_a_channel_of_ones_own_has_its_notation(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Mine:
        """Mine."""

        name = "mine"
        takes_plan = False
        loss: Annotated[float, Option("how much"), Notation("p_l", "dB", "p_l = 1/2", "a book")] = 0.5

    monkeypatch.setattr(studio.knobs, "channels", lambda: {"mine": Mine})
    (knob,) = knobs()["channels"][0]["knobs"]
    assert (knob["symbol"], knob["unit"], knob["from"]) == (elements("p_l"), "dB", "a book")
    assert knob["equation"] == elements("p_l = 1/2")


def near(value):
    return pytest.approx(value, rel=1e-9)


def test_ratio_and_budget_are_those_of_a_frame():
    pixels = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
    scores = np.random.default_rng(2).random(196)
    frame = encode(pixels, scores, rho=0.3).frame
    told = Evaluated(P=16, C=3, H=224, W=224, M=frame.bits.tolist(), B_add=HEADER_BITS)
    assert told.of(("link", "rho")) == near(frame.rho)
    ((_, bits, *_),) = EVERY["link", "total_bits"]["equation"]  # left of ≤
    assert told.value(bits) == near(8 * len(frame.to_bytes()))


def test_weights_and_distortion_are_as_written():
    scores, gamma = np.array([0.1, 0.25, 0.7]), 1.7
    told = Evaluated(d=1e-7, a_i=0.25, a_min=0.1, a_max=0.7, γ=gamma)
    assert told.of(("link", "gamma")) == near(importance_weights(scores, gamma=gamma)[1])
    for bits, rate in ((0, 0.05), (3, 0.01), (8, 0.2)):
        told = Evaluated(D_0=255**2 / 4, Q=2.0**bits, μ=rate)
        assert told.of(("link", "design_ber")) == near(float(one_error_bound(bits, rate, value_range=255)))


@pytest.mark.parametrize(("ratio", "alpha"), [(0.5, 0.85), (0.29, 1.0), (0.07, 0.3)])
def test_tokens_are_as_many_as_written(ratio, alpha):
    attention = np.random.default_rng(3).random(196)
    sent = select(attention, ratio, alpha, np.random.default_rng(0))
    count = Evaluated(r=ratio, N=196).of(("link", "ratio"))
    assert count == sent.sum()
    best = np.argsort(-attention)[: (by_attention := Evaluated(α=alpha, k=count).of(("link", "alpha")))]
    assert sent[best].all()
    assert by_attention <= count


@pytest.mark.parametrize(("k", "error", "rate"), [(4000, 1e-3, 0.05), (500, 1e-2, 0.01), (8000, 1e-4, 0.1)])
def test_code_rates_solve_the_equations(k, error, rate):
    found = code_rate(k, error=error, ber=rate)
    for where in (("link", "protect_for"), ("bsc", "design_ber"), ("awgn", "design_ber")):
        mean, spread = Evaluated(μ=rate).of(where, 1), Evaluated(μ=rate).of(where, 2)
        told = Evaluated(n=k / found, I=mean, V=spread, ε=error)
        assert told.of(where, 0, 1) == pytest.approx(k, rel=1e-6)


def test_bursts_have_the_share_and_mean_as_written():
    channel = GilbertElliott(ber=0.05, burst_length=2000.0, burst_ber=0.4, gap_ber=0.01)
    told = Evaluated(μ=0.05, μ_B=0.4, μ_G=0.01, L=2000.0, π=channel.burst_share, r=1 / 2000)
    assert told.of(("burst", "burst_ber")) == near(channel.burst_share)
    assert told.of(("burst", "gap_ber")) == near(0.05)
    ends, begins = told.of(("burst", "burst_length")), told.of(("burst", "burst_length"), 0, 1)
    assert begins / (begins + ends) == near(channel.burst_share)  # the chain's stationary share of bursts


def test_noise_symbols_and_bandwidth_are_as_written():
    link = SymbolLink(channel="awgn", order=64, cbr="1/8", snr_db=7.0, fades=False, use=lambda symbols: symbols)
    told = Evaluated(SNR=7.0, Q=64, r=1 / 8, H=224, W=224, C=3)
    assert told.of(("awgn", "snr_db"), 1) == near(10**-0.7)
    assert told.of(("awgn", "order")) == bits_per_symbol(64)
    assert told.of(("awgn", "cbr")) == link.budget(224 * 224 * 3)


def test_finite_blocklengths_are_as_written():
    blocks = Plan(
        numerology=Numerology(),
        load=np.full(196, 8),
        block_of_subchannel=np.repeat(np.arange(196), 16).reshape(784, 4),
        power=np.ones(196),
    )
    length = Evaluated(N_s=4, F=784, G=196, T=50).of(("finite_blocklength", "streams"), 1)
    assert length == blocks.block_length == 800
    for snr, target in ((0.3, 1e-3), (10.0, 0.1), (1e-3, 1e-5)):
        dispersion = Evaluated(γ=snr).of(("finite_blocklength", "target_bler"), 0, 1)
        told = Evaluated(γ=snr, μ̃=target, L_c=length, U=lambda _, value=dispersion: value)
        rate = finite_blocklength_rate(snr, dispersion_penalty(target, length))
        assert told.of(("finite_blocklength", "target_bler")) == near(float(rate))
        assert told.of(("finite_blocklength", "errors")) == near(bit_error_rate(target, length))


def test_frame_ids_are_as_written():
    assert Evaluated(s=7, n=9).of(("link", "seed")) == LinkSettings(seed=7, noise=9).frame_id
