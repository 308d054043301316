"""Symbols, units and equations of knobs, as MathML, by the names of their flags."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Told:
    """What a knob is in mathematics.

    Attributes:
        symbol: as papers write it.
        unit: of its values; empty for pure numbers.
        equation: what it does, as presentation MathML without the outer element.
        source: where the equation stands.
    """

    symbol: str = ""
    unit: str = ""
    equation: str = ""
    source: str = ""


def _i(name: str) -> str:
    return f"<mi>{name}</mi>"


def _n(number: object) -> str:
    return f"<mn>{number}</mn>"


def _o(operator: str) -> str:
    return f"<mo>{operator}</mo>"


def _row(*parts: str) -> str:
    return f"<mrow>{''.join(parts)}</mrow>"


def _frac(above: str, below: str) -> str:
    return f"<mfrac>{_row(above)}{_row(below)}</mfrac>"


def _sub(base: str, index: str) -> str:
    return f"<msub>{base}{_row(index)}</msub>"


def _sup(base: str, exponent: str) -> str:
    return f"<msup>{_row(base)}{_row(exponent)}</msup>"


def _sum(index: str) -> str:
    return f"<munder><mo>∑</mo>{_i(index)}</munder>"


def _in(*parts: str) -> str:
    return _row(_o("("), *parts, _o(")"))


_M_I, _A_I, _W_I = _sub(_i("M"), _i("i")), _sub(_i("a"), _i("i")), _sub(_i("w"), _i("i"))
_PIXELS = _row(_i("H"), _i("W"), _i("C"))
_PAYLOAD = _row(_sup(_i("P"), _n(2)), _i("C"), _sum("i"), _M_I)
_MU = _i("μ")
_LEVELS = _sup(_n(2), _i("M"))

SYMBOLS = {
    "rho": Told(
        "ρ", "", _row(_i("ρ"), _o("="), _frac(_PAYLOAD, _row(_n(8), _PIXELS))), "IAQ, Section III-B"
    ),
    "total_bits": Told(
        "B", "bit", _row(_sub(_i("B"), _i("header")), _o("+"), _PAYLOAD, _o("≤"), _i("B")), "IAQ, equation (10)"
    ),
    "gamma": Told(
        "γ",
        "",
        _row(
            _W_I, _o("="), _in(_n(1), _o("−"), _i("d")),
            _sup(
                _in(_frac(_row(_A_I, _o("−"), _sub(_i("a"), _i("min"))),
                          _row(_sub(_i("a"), _i("max")), _o("−"), _sub(_i("a"), _i("min"))))),
                _i("γ"),
            ),
            _o("+"), _i("d"),
        ),
        "IAQ, equation (31)",
    ),
    "design_ber": Told(
        "μ",
        "",
        _row(
            _i("D"), _in(_LEVELS, _o(";"), _MU), _o("="),
            _frac(_sup(_i("R"), _n(2)), _row(_n(4), _in(_n(1), _o("−"), _MU))),
            _sup(_in(_frac(_row(_n(1), _o("−"), _MU), _n(4))), _i("M")),
            _in(_frac(_n(4), _n(3)), _MU, _sup(_n(4), _i("M")), _o("+"), _n(4), _MU, _LEVELS, _o("+"), _n(1),
                _o("−"), _frac(_n(16), _n(3)), _MU),
        ),
        "IAQ, equation (21)",
    ),
    "ber": Told(
        "μ",
        "",
        _row(_i("P"), _in(_i("b"), _o("≠"), "<mover><mi>b</mi><mo>^</mo></mover>"), _o("="), _MU),
        "IAQ, equation (19)",
    ),
    "snr": Told(
        "SNR",
        "dB",
        _row(
            _i("SNR"), _o("="), _n(10), _sub("<mi>log</mi>", _n(10)),
            _frac(_sub(_i("E"), _i("s")), _sub(_i("N"), _n(0))),
        ),
    ),
    "order": Told("Q", "points", _row(_sub("<mi>log</mi>", _n(2)), _i("Q"), _o("="), _i("bits a symbol"))),
    "code_ber": Told("μ", ""),
    "protect_for": Told("μ", ""),
    "burst_length": Told(
        "L", "bit", _row(_i("L"), _o("="), _frac(_n(1), _sub(_i("p"), _i("bad→good"))))
    ),
    "burst_ber": Told("μ", ""),
    "gap_ber": Told("μ", ""),
    "packet_loss": Told("p", ""),
    "packet_bytes": Told("", "byte"),
    "cbr": Told("k/n", "", _row(_i("CBR"), _o("="), _frac(_i("symbols"), _PIXELS))),
    "streams": Told("N_s", "streams"),
    "csi_error": Told("σ²", ""),
    "target_bler": Told("ε", ""),
    "ratio": Told("r", "", _row(_i("K"), _o("="), _i("r"), _i("N"))),
    "alpha": Told("α", "", _row(_sub(_i("K"), _i("attention")), _o("="), _i("α"), _i("r"), _i("N"))),
    "token_bits": Told("b", "bit"),
    "side": Told("", "pixel"),
    "budget_bytes": Told("", "byte"),
    "threshold": Told("", ""),
    "every": Told("", "s"),
}  # fmt: skip
"""By the flag."""
