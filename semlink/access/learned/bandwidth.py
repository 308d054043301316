"""Channel bandwidth ratio (CBR): complex channel uses a value of the picture (Kong, Zhang, equation 3).

A tile of 32×32 pixels in three colours has 3072 values, so CBR 1/24 is 128 channel uses a tile. The learned source
gives it 64 tokens of 96 bits; a token gets the same number of channel uses as every other.
"""

from types import MappingProxyType

TILE_VALUES = 32 * 32 * 3
"""Values of a tile."""
TOKENS, TOKEN_BITS = 64, 96
"""Tokens of a tile, and bits of a token: the learned source's interface."""
CBRS = ("1/24", "1/16", "1/8", "1/4")
"""Channel bandwidth ratios that there are, as they are written."""
TOKEN_SYMBOLS = MappingProxyType({cbr: TILE_VALUES // int(cbr[2:]) // TOKENS for cbr in CBRS})
"""Complex symbols of a token, by CBR: 2, 3, 6, 12."""
MOST_TOKEN_SYMBOLS = max(TOKEN_SYMBOLS.values())
"""At the largest CBR."""


def token_symbols(cbr: str) -> int:
    """Complex symbols that each of the 64 tokens of a tile has on the air.

    Args:
        cbr: one of `CBRS`, such as "1/24".

    Raises:
        ValueError: no such ratio.

    >>> [64 * token_symbols(cbr) for cbr in CBRS]
    [128, 192, 384, 768]
    """
    if cbr not in TOKEN_SYMBOLS:
        raise ValueError(f"cbr must be one of {', '.join(CBRS)}, not {cbr!r}")
    return TOKEN_SYMBOLS[cbr]
