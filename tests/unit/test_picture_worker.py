"""Answers of decoder processes, as whoever asked reads them: also what no such process would say."""

import asyncio

import pytest

from semlink.vision.images import ImageError
from semlink.vision.picture_worker import MAX_REFUSAL_BYTES, answer_of, read_answer


async def read(said: bytes) -> bytes | ImageError:
    answers = asyncio.StreamReader()
    answers.feed_data(said)
    answers.feed_eof()
    return await read_answer(answers, 3)


def refused() -> bytes:
    raise ImageError("the image is none", "picture_malformed")


async def test_what_is_answered_is_read():
    assert await read(answer_of(lambda: b"rgb")) == b"rgb"
    refusal = await read(answer_of(refused))
    assert isinstance(refusal, ImageError)
    assert (str(refusal), refusal.reason) == ("the image is none", "picture_malformed")


@pytest.mark.parametrize(
    "said",
    [
        *(b"", b"P", b"Prg", b"R\0\0", b"R\0\0\0\3{}", b"R\0\0\0\2{}", b"R\0\0\0\2[]", b"R\0\0\0\1\xff"),
        b"R" + (MAX_REFUSAL_BYTES + 1).to_bytes(4) + b" " * MAX_REFUSAL_BYTES + b"0",
        b"R\xff\xff\xff\xff",
    ],
    ids=lambda said: repr(said[:12]),
)
async def test_what_none_says_is_an_error(said):
    with pytest.raises((EOFError, TypeError, ValueError)):
        await read(said)


async def test_of_a_refusal_that_is_too_long_nothing_is_waited_for():
    answers = asyncio.StreamReader()
    answers.feed_data(b"R\xff\xff\xff\xff")
    with pytest.raises(ValueError, match="65536"):
        await read_answer(answers, 3)
