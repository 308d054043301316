"""HTTP/2 client, written by hand, that opens gRPC calls and takes no answer: its flow-control window is 0."""

import contextlib
import socket
import ssl
import struct
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, GOAWAY = 0, 1, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4


class Unread:
    """One connection whose initial window is 0 (RFC 9113, section 6.9.2): no message can be sent to it."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None, source: str = "127.0.0.1") -> None:
        """Connects from the address `source` to HOST:PORT, and exchanges settings."""
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30, source_address=(source, 0))
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self._stream = -1
        window = struct.pack(">HI", INITIAL_WINDOW_SIZE, 0)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, window) + frame(SETTINGS, ACK, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def call(self, path: str, message: bytes, key: str | None = None, *, ends: bool = True) -> None:
        """Begins a gRPC call; without `ends`, its message never comes."""
        self._stream += 2
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost"}
        fields |= {"te": "trailers", "content-type": "application/grpc"}
        fields |= {"authorization": f"Bearer {key}"} if key else {}
        block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
        sent = frame(HEADERS, END_HEADERS, self._stream, block)
        if ends:
            sent += frame(DATA, END_STREAM, self._stream, struct.pack(">BI", 0, len(message)) + message)
        self.socket.sendall(sent)

    def take_heads(self, number: int) -> None:
        """Returns once the other end has begun to answer so many calls: heads pass where no message does."""
        while number:
            if self._frame()[0] == HEADERS:
                number -= 1

    def _frame(self) -> tuple[int, bytes]:
        """Kind and payload of the next frame that arrives."""
        head = self._exactly(9)
        return head[3], self._exactly(int.from_bytes(head[:3]))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, "the connection was closed"
            data += more
        return data

    def has_been_closed(self, seconds: float) -> bool:
        """Whether the other end closes the connection before it is silent for so long."""
        self.socket.settimeout(seconds)
        with contextlib.suppress(ConnectionError):
            try:
                while self.socket.recv(65536):
                    pass
            except TimeoutError:
                return False
        return True


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(text: str) -> bytes:
    """A string literal of HPACK (RFC 7541, section 5.2), not Huffman-coded."""
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, length = len(data) - 127, bytearray([127])
    while rest >= 128:
        length.append(rest % 128 + 128)
        rest //= 128
    return bytes(length) + bytes([rest]) + data
