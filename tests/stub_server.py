"""A server before a model that stands still until it is told to go on; it needs no torch and starts at once."""

import json
from pathlib import Path

import grpc
import httpx
import numpy as np
from processes import Running

from semlink.source.iaq.coder import encode
from semlink.v1.link_pb2 import ClassifyRequest

FRAME_TYPE = "application/vnd.semlink.frame"

# A server without torch: everything looks grey to it.
GREY = """
import server.__main__
import server.recognition
from server.model import BatchResult, Prediction

class Grey:
    description, class_names = "grey", [f"class {label}" for label in range(1000)]
    __init__ = lambda self, settings: None
    warm_up = lambda self, max_batch: (0.0, 0.0)

    def predict(self, images):
        return BatchResult([(Prediction(7, "grey", 1.0),) for _ in images], 0.0, 0.0)

server.recognition.load_model = Grey
server.recognition.SourceDecoders.load = lambda self, weights: None  # of coders with models
server.__main__.main()
"""

# A server whose model says of a picture how bright it is, once a file exists; it notes its batches in another.
STUB = """
import json, os, pathlib, sys, time
import server.__main__
import server.recognition
from server.model import BatchResult, Prediction

folder = pathlib.Path(sys.argv.pop(1))

class Stub:
    description, class_names = "stub", [f"class {label}" for label in range(1000)]

    def __init__(self, settings):
        while not (folder / "loaded").exists():
            time.sleep(0.005)

    def warm_up(self, max_batch):
        seconds = float(os.environ.get("STUB_SECONDS", "0"))  # as if an image took so long; 0: unknown
        return seconds, max_batch * seconds

    def predict(self, images):
        labels = [int(image.pixels[0, 0, 0]) for image in images]
        with (folder / "batches").open("a") as batches:
            print(json.dumps({"labels": labels, "torch": "torch" in sys.modules}), file=batches)
        while not (folder / "gate").exists():
            time.sleep(0.005)
        return BatchResult([(Prediction(label, f"grey {label}", 1.0),) for label in labels], 0.0, 0.0)

server.recognition.load_model = Stub
server.recognition.SourceDecoders.load = lambda self, weights: None  # of coders with models
server.__main__.main()
"""


class Server:
    """A running stub."""

    def __init__(self, process: Running, folder: Path) -> None:
        self.process, self.folder = process, folder
        self.link, self.http = process.link, process.http

    def let_go(self) -> None:
        (self.folder / "gate").touch()

    @property
    def batches(self) -> list[list[int]]:
        if not (self.folder / "batches").exists():
            return []
        lines = map(json.loads, (self.folder / "batches").read_text().splitlines())
        return [line["labels"] for line in lines]

    def call(self, label: int, *, timeout: float = 120, metadata=(), **ids) -> grpc.Future:
        return self.link.Classify.future(
            ClassifyRequest(frame=grey(label), **ids), timeout=timeout, metadata=metadata
        )

    def post(self, label: int, timeout: httpx.Timeout | float = 60) -> httpx.Response:
        headers = {"Content-Type": FRAME_TYPE}
        return self.http.post("/v1/classify", content=grey(label), headers=headers, timeout=timeout)

    @property
    def depth(self) -> int:
        return int(self.process.metric("semlink_server_queue_depth"))

    def outcomes(self, protocol: str, outcome: str) -> float:
        labels = f'outcome="{outcome}",protocol="{protocol}"'
        return self.process.metric(f"semlink_server_requests_total{{{labels}}}")


def grey(label: int) -> bytes:
    return encode(np.full((224, 224, 3), label, np.uint8), np.ones(196), rho=0).frame.to_bytes()
