"""RTSP camera for tests: JPEG frames (RFC 2435) that are interleaved in its one connection (RFC 2326)."""

import io
import re
import socket
import struct
import threading

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 48
CLOCK_RATE = 90_000
SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 26\r\nc=IN IP4 0.0.0.0\r\na=control:track\r\n"
)


def packet(number: int, grey: int) -> bytes:
    """A grey frame as one interleaved RTP packet, its quantization tables included."""
    file = io.BytesIO()
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), grey, np.uint8)).save(
        file, "JPEG", quality=90, subsampling="4:2:0"
    )
    data = file.getvalue()
    tables = [data[found.end() : found.end() + 64] for found in re.finditer(rb"\xff\xdb\0\x43.", data, re.DOTALL)]
    start = data.index(b"\xff\xda")
    scan = data[start + 2 + int.from_bytes(data[start + 2 : start + 4]) : -2]
    rtp = struct.pack(">BBHII", 0x80, 0x80 | 26, number, number * CLOCK_RATE // 10, 7)
    jpeg = struct.pack(">IBBBB", 0, 1, 255, WIDTH // 8, HEIGHT // 8)
    content = rtp + jpeg + struct.pack(">BBH", 0, 0, 128) + b"".join(tables) + scan
    return b"$\0" + struct.pack(">H", len(content)) + content


class RtspCamera:
    """Listens on a free port. Each client gets `frames` frames, then the camera hangs up."""

    def __init__(self, frames: int) -> None:
        self.frames, self.served = frames, 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"rtsp://me:secret@127.0.0.1:{self._listening.getsockname()[1]}/one"

    def __enter__(self) -> "RtspCamera":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as stream:
                try:
                    self._play(stream)
                except OSError:
                    continue

    def _play(self, stream) -> None:
        while line := stream.readline():
            method = line.split(b" ")[0]
            headers = dict(
                re.findall(r"(\w+): *(.*)\r\n", "".join(iter(lambda: stream.readline().decode(), "\r\n")))
            )
            answer, body = f"RTSP/1.0 200 OK\r\nCSeq: {headers['CSeq']}\r\nSession: 1\r\n", ""
            if method == b"DESCRIBE":
                body = SDP
                answer += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            if method == b"SETUP":
                answer += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            stream.write(f"{answer}\r\n{body}".encode())
            stream.flush()
            if method == b"PLAY":
                self.served += 1
                for number in range(self.frames):
                    stream.write(packet(number, 10 + 20 * number))
                stream.flush()
                return
