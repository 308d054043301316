"""Inputs that mean harm or nothing, made from good ones and from nothing; what is made follows from the seed."""

import io
import json
import struct
import zlib
from collections.abc import Sequence
from random import Random

import numpy as np
from PIL import Image

from semlink.frame import FrameError
from semlink.source.iaq.frame import Geometry
from semlink.source.registry import read_frame
from semlink.source.transformer_aided.frame import TokenFrame
from semlink.v1.link_pb2 import ClassifyRequest, TransmissionPlan, WaitVoteRequest

CRC_BYTES = 4
FRAME_TYPE = "application/vnd.semlink.frame"
NAMES = (
    "",
    "a",
    "x" * 128,
    "x" * 129,
    "y" * 5000,
    "\0",
    "\n\r{}",
    "../../etc/passwd",
    "semlink:2:objects",
    "é\U0001f600",
)
NUMBERS = ("-1", "0", "1e999", "nan", "-inf", "9" * 400, str(2**64), "0x10", "1.5", "", "true", "٣")


class Hostile:
    """A source of hostile inputs, none of which is a frame that a server would look at."""

    def __init__(self, seed: int, frames: Sequence[bytes], others: Sequence[bytes] = ()) -> None:
        """`frames`: good ones, to start from, as `others` are, of other source coders."""
        self._of_no_decoder = tokens()
        self.random, self._frames = Random(seed), (*frames, self._of_no_decoder)
        self._any = (*self._frames, *others)
        pixels = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
        self._pictures = {kind: stored(pixels, kind) for kind in ("PNG", "JPEG")}

    def frame(self) -> bytes:
        """Damaged, cut, drawn out, made up, vouched for, or of no decoder; never one for this server."""
        random, frame = self.random, bytearray(self.random.choice(self._any))
        header = read_frame(frame).header_bits // 8
        match random.randrange(8):
            case 0:
                self._flip(frame, header)
            case 1:
                del frame[random.randrange(len(frame)) :]
            case 2:
                frame += random.randbytes(random.choice((1, 100, 10_000)))
            case 3:
                frame = bytearray(random.randbytes(random.choice((0, 1, 11, 113, 5000))))
            case 4:
                frame = bytearray(frame[:4] + random.randbytes(random.choice((7, 11, 200))))
            case 5:
                for _ in range(random.randint(1, 3)):
                    place = random.randrange(2, min(11, header - CRC_BYTES))
                    frame[place] = random.choice((0, 1, 2, 8, 9, 14, 127, 128, 255))
                frame = vouched(frame, header)
            case 6:
                start = random.randrange(4, min(12, header - CRC_BYTES))
                frame[start : header - CRC_BYTES] = random.randbytes(header - CRC_BYTES - start)
                frame = vouched(frame, header)
            case 7:
                return self._of_no_decoder
        return bytes(frame[:-1] if is_frame(frame) else frame)

    def classify_request(self) -> ClassifyRequest:
        """A hostile frame under hostile names; at times a good one with patches that are none."""
        random = self.random
        request = ClassifyRequest(
            frame=self.frame(), object_id=random.choice(NAMES), device_id=random.choice(NAMES),
            frame_id=random.choice((0, 1, 2**64 - 1)), expected_views=random.choice((0, 4, 65, 2**32 - 1)),
            top_k=random.choice((0, 5, 101, 2**32 - 1)), echo_frame=random.random() < 0.5,
            header_tag=random.randbytes(random.choice((0, 1, 32, 1000))),
            report_symbols=random.choice((0, 1, 4096, 4097, 2**32 - 1)),
        )  # fmt: skip
        if random.random() < 0.1:
            request.frame = random.choice(self._frames)
            request.lost_patches.extend([196 + random.randrange(1000)] * random.choice((1, 300)))
        return request

    def layered_request(self) -> ClassifyRequest:
        """A good frame of any source coder or opinion at a place where no view can have it."""
        random = self.random
        request = ClassifyRequest(
            frame=random.choice(self._any), object_id=f"thing {random.randrange(9)}", device_id="layered",
            frame_id=random.randrange(2**64), expected_views=random.choice((0, 1, 64)),
            layer=random.choice((1, 2, 7, 8, 2**32 - 1)), more=random.choice((0, 1, 2, 3, -1, 2**31 - 1)),
        )  # fmt: skip
        match random.randrange(4):
            case 0:
                request.object_id = ""
            case 1:
                request.layer, request.more = 0, random.choice((3, 4, -(2**31)))
            case 2:
                request.frame = self.frame()
        return request

    def planned_request(self) -> ClassifyRequest:
        """A good frame with a plan that can't be carried out, of the device `planned`."""
        random = self.random
        floats = (0.0, -1.0, 1e308, float("nan"), float("inf"), 1e-320, 1.0)
        plan = TransmissionPlan(
            state_id=random.randbytes(random.choice((0, 8, 32, 33))), rho=random.choice((*floats, 0.25)),
            power=[random.choice(floats)] * random.choice((0, 1, 196, 5000)),
            block_of_subchannel=[random.randrange(2**32)] * random.choice((0, 1, 196, 5000)),
            error_rates=[random.choice(floats)] * random.choice((0, 0, 196, 5000)),
            method=random.choice(("", "", "", "exact", "x" * 1000)),
        )  # fmt: skip
        request = ClassifyRequest(frame=random.choice(self._frames), device_id="planned", plan=plan)
        if random.random() < 0.2:
            request.ClearField("plan")
        return request

    def message(self) -> bytes:
        """What may pass for a protobuf message of any method of the link, or not."""
        random = self.random
        match random.randrange(6):
            case 0:
                return self.classify_request().SerializeToString()
            case 1:
                message = bytearray(self.classify_request().SerializeToString())
                self._flip(message, 200)
                return bytes(message)
            case 2:
                return random.randbytes(random.choice((1, 2, 10, 100, 2000)))
            case 3:
                wait = random.choice((-1.0, 61.0, float("nan"), float("inf"), 1e308))
                device = random.choice(NAMES)
                asking = WaitVoteRequest(object_id="cup", wait_seconds=wait, device_id=device)
                return asking.SerializeToString()
            case 4:  # a length that is longer than all there is, of a field of any number
                return bytes([random.randrange(256), *[0xFF] * random.randint(1, 12), random.randrange(128)])
            case _:  # groups in groups, text that is no UTF-8, numbers that do not end
                return random.choice(
                    (b"\x0b" * 5000, b"\x12\x03\xff\xfe\xfd", b"\x1a" + b"\x80" * 500, b"\x0a\0" * 999)
                )

    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What may come along with a call."""
        random = self.random
        text = random.choice(("", "x", "Bearer ", "Bearer " + "k" * 500, "00-" + "f" * 32, " ~", "-1", "%00%ff"))
        keys = ("authorization", "x-request-id", "traceparent", "tracestate", "baggage", "user", "a" * 100)
        return ((random.choice(keys), text), (random.choice(("trace-bin", "x-bin")), random.randbytes(50)))

    def picture(self) -> bytes:
        """A PNG or JPEG that is cut, damaged at its head, or as large as its head says; never a good one."""
        random, kind = self.random, self.random.choice(("PNG", "JPEG"))
        picture = bytearray(self._pictures[kind])
        match random.randrange(4):
            case 0:
                del picture[random.randrange(60) :]
            case 1:
                picture[:3] = random.randbytes(3)
            case 2:
                sides = struct.pack(">II", random.choice((0, 2**16, 2**31 - 1)), random.choice((0, 2**20, 2**31)))
                picture = bytearray(self._pictures["PNG"])
                picture[16:24] = sides
                picture[29:33] = struct.pack(">I", zlib.crc32(picture[12:29]))
            case 3:
                picture[20:] = random.randbytes(200)
        return bytes(picture)

    def json(self) -> bytes:
        """What a control plane may be told, right or wrong."""
        random = self.random
        match random.randrange(5):
            case 0:
                body = bytearray(json.dumps({"default": {"type": "bsc", "ber": 0.01}, "devices": {}}).encode())
                self._flip(body, len(body))
                return bytes(body)
            case 1:
                return random.choice(
                    (b"[" * 5000, b'"\\ud800"', b"9" * 5000, b"NaN", b"", b"\xff\xfe{}", b'{"a":' * 900)
                )
            case _:
                return json.dumps(self._value(4)).encode()

    def query(self, *names: str) -> str:
        """Parameters of a request over HTTP, names and values encoded for it or not."""
        random = self.random
        values = (*NUMBERS, *("%00", "%ff%fe", "%ed%a0%80", "a" * 3000, "&&=", "%", "%zz"))
        return "&".join(
            f"{random.choice(names)}={ascii_only(random.choice(values))}" for _ in range(random.randint(1, 4))
        )

    def head(self) -> bytes:
        """The head of a request over HTTP that is none."""
        random = self.random
        method = random.choice((b"GET", b"POST", b"PUT", b"\x00\x01", b"G" * 3000, b"PRI"))
        target = random.choice((b"/", b"/v1/classify", b"*", b"http://[", b"/" + b"a" * 9000, b"/%", b"\xff"))
        version = random.choice((b"HTTP/1.1", b"HTTP/9.9", b"HTTP/2.0", b"", b"HTTP/1.1\0"))
        field = random.choice((
            b"Content-Length: -1", b"Content-Length: 1\r\nContent-Length: 2", b"Content-Length: " + b"9" * 30,
            b"Transfer-Encoding: chunked\r\n\r\nzz", b"Transfer-Encoding: gzip, x", b": nameless", b"A: \x00",
            b"Host: a\r\nHost: b", b"X" * 70_000, b"Content-Length: \xd9\xa3", b"Expect: 200-nothing",
        ))  # fmt: skip
        return b"%s %s %s\r\n%s\r\n\r\n" % (method, target, version, field)

    def _flip(self, data: bytearray, within: int) -> None:
        for _ in range(self.random.randint(1, 8)):
            data[self.random.randrange(min(within, len(data)))] ^= 1 << self.random.randrange(8)

    def _value(self, depth: int) -> object:
        random = self.random
        if depth and random.random() < 0.7:
            keys = ("default", "devices", "type", "ber", "snr_db", "order", "planned", "é\0", "x" * 200)
            return {random.choice(keys): self._value(depth - 1) for _ in range(random.randint(0, 4))}
        return random.choice(
            (None, True, -1, 2**70, 1e308, float("inf"), [], [[]], "", "bsc", "mimo_ofdm", "x" * 9000)
        )


def vouched(frame: bytearray, header: int) -> bytearray:
    """With the checksum that its header ought to have, which ends after so many bytes."""
    fields = frame[: header - CRC_BYTES]
    return fields + struct.pack(">I", zlib.crc32(fields)) + frame[header:]


def tokens() -> bytes:
    """Half of the tokens of a picture, in a good frame for a decoder that no server has."""
    sent = np.arange(196) % 2 == 0
    codes = np.random.default_rng(0).integers(0, 16, (98, 192)).astype(np.uint8)
    return TokenFrame.from_codes(codes, sent, geometry=Geometry(14, 14, 16, 3), bits=4, decoder=b"none").to_bytes()


def is_frame(data: bytes) -> bool:
    try:
        read_frame(data)
    except FrameError:
        return False
    return True


def stored(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def ascii_only(text: str) -> str:
    return "".join(
        letter if letter.isascii() else "".join(f"%{byte:02x}" for byte in letter.encode()) for letter in text
    )
