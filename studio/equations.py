"""MathML of equations in plain text, as `semlink.parameters.Notation` has them: a recursive descent parser.

    equation := sum (relation sum)*        relation: = ≠ ≤ ≥ < > ≈ ∼ ∈ , ; :
    sum      := [-] product ((+ | -) product)*
    product  := power ((/ | ·)? power)*
    power    := atom [_ index] [^ exponent]
    atom     := number | name | "text" | ∑ | √ power | ( equation ) | | sum | | ⌊ sum ⌋ | ⌈ sum ⌉

An element is a list: its tag, and then its children or its text. Pages make nodes of it, and read no HTML.
"""

import re
from typing import Any

Element = list[Any]

MOST_CHARACTERS, MOST_DEPTH = 1000, 24
"""Of an equation, and of parentheses within each other."""
TAGS = ("mrow", "mi", "mn", "mo", "mtext", "mfrac", "msub", "msup", "msubsup", "munder", "msqrt")
"""Tags that elements have."""
_TOKENS = re.compile(r'\s*(?:(\d+(?:\.\d+)?)|([^\W\d_][\u0300-\u036f]?(?:[^\W\d_])*)|"([^"]*)"|(\S))')
_RELATIONS = tuple("=≠≤≥<>≈∼∈,;:")
_CLOSING = {"(": ")", "|": "|", "⌊": "⌋", "⌈": "⌉"}
_UNDER = ("∑", "max", "min")
"""Operators whose index stands below them."""


class EquationError(ValueError):
    """The text is no equation; the message says where."""


def elements(text: str) -> list[Element]:
    """Equations, a line each, as MathML elements; as they are where they can't be read.

    >>> elements("R = k/n")
    [['mrow', ['mi', 'R'], ['mo', '='], ['mfrac', ['mi', 'k'], ['mi', 'n']]]]
    >>> elements("a = (")
    [['mtext', 'a = (']]
    """
    return [_shown(line) for line in text.splitlines()]


def _shown(line: str) -> Element:
    try:
        return parse(line)
    except EquationError:
        return ["mtext", line]


def parse(line: str) -> Element:
    """An equation as a MathML element.

    Raises:
        EquationError: it is none, too long, or nested too deeply.
    """
    if len(line) > MOST_CHARACTERS:
        raise EquationError(f"an equation has at most {MOST_CHARACTERS} characters, not {len(line)}")
    return _Parser(line).whole()


class _Parser:
    def __init__(self, line: str) -> None:
        """`line`: of plain text."""
        self._tokens = [(match.lastindex or 0, match[match.lastindex or 0]) for match in _TOKENS.finditer(line)]
        self._at = self._depth = 0

    def whole(self) -> Element:
        found = self._equation()
        if self._at != len(self._tokens):
            raise EquationError(f"{self._next[1]!r} is not expected")
        return found

    @property
    def _next(self) -> tuple[int, str]:
        """Kind of the next token, which is the number of its group, and its text; 0 at the end."""
        return self._tokens[self._at] if self._at < len(self._tokens) else (0, "")

    def _takes(self, *signs: str) -> str:
        """The next token if it is one of these signs, which is then read; else nothing."""
        kind, text = self._next
        if kind != 4 or text not in signs:
            return ""
        self._at += 1
        return text

    def _equation(self) -> Element:
        parts = [self._sum()]
        while sign := self._takes(*_RELATIONS):
            parts += [["mo", sign], self._sum()]
        return _row(parts)

    def _sum(self) -> Element:
        parts: list[Element] = []
        sign = self._takes("-", "−")
        while True:
            parts += [["mo", "−" if sign in "-−" else sign]] if sign else []
            parts.append(self._product())
            if not (sign := self._takes("+", "-", "−", "±")):
                return _row(parts)

    def _product(self) -> Element:
        factors = [self._power()]
        while True:
            if self._takes("/"):
                factors[-1] = ["mfrac", _bare(factors[-1]), _bare(self._power())]
            elif self._takes("·", "×"):
                factors += [["mo", "·"], self._power()]
            elif self._begins_an_atom():
                factors.append(self._power())
            else:
                return _row(factors)

    def _begins_an_atom(self) -> bool:
        kind, text = self._next
        # What closes | also opens it: within one, it closes.
        return kind in (1, 2, 3) or (kind == 4 and text in ("(", "⌊", "⌈", "√", "∑"))

    def _power(self) -> Element:
        base = self._atom()
        index = _bare(self._atom()) if self._takes("_") else None
        exponent = self._exponent() if self._takes("^") else None
        if index is not None and base[1] in _UNDER:
            base, index = ["munder", base, index], None
        if index is not None and exponent is not None:
            return ["msubsup", base, index, exponent]
        if index is not None:
            return ["msub", base, index]
        return base if exponent is None else ["msup", base, exponent]

    def _exponent(self) -> Element:
        if self._takes("-", "−"):
            return ["mrow", ["mo", "−"], self._atom()]
        return _bare(self._atom())

    def _atom(self) -> Element:
        kind, text = self._next
        self._at += 1
        if kind in (1, 2, 3):
            return [("", "mn", "mi", "mtext")[kind], text]
        if text == "∑":
            return ["mo", text]
        if text not in ("√", *_CLOSING):
            raise EquationError(f"{text!r} is not expected" if text else "something is missing at the end")
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise EquationError(f"parentheses are at most {MOST_DEPTH} deep")
        if text == "√":
            found = ["msqrt", _bare(self._power())]
        else:
            found = ["mrow", ["mo", text], self._equation(), ["mo", _CLOSING[text]]]
            if not self._takes(_CLOSING[text]):
                raise EquationError(f"{_CLOSING[text]!r} is missing")
        self._depth -= 1
        return found


def _row(parts: list[Element]) -> Element:
    return parts[0] if len(parts) == 1 else ["mrow", *parts]


def _bare(element: Element) -> Element:
    """Without the parentheses around it."""
    return element[2] if element[0] == "mrow" and element[1] == ["mo", "("] and len(element) == 4 else element
