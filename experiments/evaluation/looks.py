"""Looks: what classifiers make of stills of every rung, by picture; measured once and kept on disk.

A dialogue sends a still where the server wishes for one. What comes of it depends on the picture and the rung
alone, so it is measured for all of them once; policies, fits and figures then read it in seconds.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from experiments.classifiers import Classifier, load_classifier, weights_of
from semlink.source.codec import coder
from semlink.source.codec.frame import CodecFrame
from semlink.source.codec.stills import CodecName
from semlink.vision.images import IMAGE_SIZE

SHARD = 16
"""Pictures of one task."""
PROBES = 4
"""Pictures by which an encoder is known."""
FILE = "looks.sqlite"
"""In the cache's folder."""
_TABLES = """
CREATE TABLE IF NOT EXISTS frames (picture TEXT, still TEXT, frame BLOB, PRIMARY KEY (picture, still));
CREATE TABLE IF NOT EXISTS logits (picture TEXT, still TEXT, model TEXT, logits BLOB,
                                   PRIMARY KEY (picture, still, model));
"""


@dataclass(frozen=True, order=True)
class Still:
    """A kind of still: what a rung of the dialogue sends of a picture.

    Attributes:
        side: longer side in pixels.
        budget_bytes: most bytes of the frame, header included.
        codec: avif, webp or jpeg.
    """

    side: int
    budget_bytes: int
    codec: CodecName = "avif"

    def frame(self, pixels: NDArray[np.uint8]) -> bytes:
        """The frame of a (224, 224, 3) picture."""
        coded = coder.encode_look(pixels, codec=self.codec, side=self.side, budget_bytes=self.budget_bytes)
        return coded.frame.to_bytes()

    @property
    def key(self) -> str:
        """Names the still and what its encoder makes of some pictures: another encoder has another key."""
        return f"{self.codec} {self.side} {self.budget_bytes} {_fingerprint(self)}"


@cache
def _fingerprint(still: Still) -> str:
    """Of the frames of pictures that are noise of several scales, as photos are."""
    digest = hashlib.sha256()
    for seed in range(PROBES):
        generator, picture = np.random.default_rng(seed), np.full((IMAGE_SIZE, IMAGE_SIZE, 3), 128.0)
        for squares in (2, 4, 8, 16, 32, 112):
            noise = generator.normal(0, 100 / squares, (squares, squares, 3))
            picture += noise.repeat(IMAGE_SIZE // squares, axis=0).repeat(IMAGE_SIZE // squares, axis=1)
        digest.update(still.frame(np.clip(picture, 0, 255).astype(np.uint8)))
    return digest.hexdigest()[:12]


RUNGS = tuple(
    Still(side, budget)
    for side, budget in (
        (112, 376), (112, 753), (160, 1505), (160, 3010), (224, 6020), (224, 12040),
    )
)  # fmt: skip
"""Sides and budgets of the stills, the cheapest first: 1/400 to 1/12.5 of the picture's 150,528 bytes."""


@dataclass(frozen=True, eq=False)
class Model:
    """A classifier by name, and the folder to look into first for its weights."""

    name: str
    weights: Path | None = None

    @property
    def key(self) -> str:
        """Its name and the beginning of the SHA-256 of its weights."""
        return f"{self.name} {weights_of(self.name, self.weights).sha256[:12]}"


class Looks:
    """What is known of some pictures: frames of stills, and logits of classifiers on pictures and stills."""

    def __init__(self, pixels: Sequence[NDArray[np.uint8]], folder: Path) -> None:
        """Nothing is measured yet.

        Args:
            pixels: (B, 224, 224, 3) 8-bit pictures.
            folder: keeps what is measured, of any pictures.
        """
        self._pixels = pixels
        self._pictures = [hashlib.sha256(np.ascontiguousarray(each).tobytes()).hexdigest()[:24] for each in pixels]
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / FILE

    def measure(
        self,
        stills: Iterable[Still | None],
        models: Sequence[Model],
        processes: int,
        progress: Progress,
    ) -> None:
        """Encodes every picture as every still and asks every model, where that is not known yet.

        Args:
            stills: kinds of stills; None: the undamaged picture.
            models: classifiers.
            processes: how many work at once, each on one thread; 1: this one.
            progress: progress bar.

        Raises:
            WeightsError: no usable weights.
        """
        tasks = list(self._missing(stills, models))
        with closing(self._open()) as database:
            for task, frames, logits in progress.track(
                _looks(tasks, min(processes, len(tasks))), total=len(tasks), description="looks"
            ):
                with database:
                    _keep(database, task, frames, logits)

    def frames(self, still: Still) -> list[bytes]:
        """The frame of each picture as a still that was measured."""
        with closing(self._open()) as database:
            known = dict(database.execute("SELECT picture, frame FROM frames WHERE still = ?", (still.key,)))
        return [known[picture] for picture in self._pictures]

    def logits(self, model: Model, still: Still | None = None) -> NDArray[np.float32]:
        """(B, C) logits of a model on every picture, or on the still of it, that were measured."""
        wanted = ("" if still is None else still.key, model.key)
        with closing(self._open()) as database:
            known = dict(
                database.execute("SELECT picture, logits FROM logits WHERE still = ? AND model = ?", wanted)
            )
        return np.stack([np.frombuffer(known[picture], np.float32) for picture in self._pictures])

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._file, timeout=60)
        database.executescript(_TABLES)
        return database

    def _missing(self, stills: Iterable[Still | None], models: Sequence[Model]) -> Iterator["_Task"]:
        keys = {model.key: model for model in models}
        with closing(self._open()) as database:
            for still in stills:
                name = "" if still is None else still.key
                have = dict(database.execute("SELECT picture, frame FROM frames WHERE still = ?", (name,)))
                asked = {
                    key: {
                        picture
                        for (picture,) in database.execute(
                            "SELECT picture FROM logits WHERE still = ? AND model = ?", (name, key)
                        )
                    }
                    for key in keys
                }
                for start in range(0, len(self._pictures), SHARD):
                    here = self._pictures[start : start + SHARD]
                    lacking = {key: keys[key] for key, known in asked.items() if not known.issuperset(here)}
                    frames = [have.get(picture) for picture in here]
                    if lacking or None in frames:
                        pixels = np.stack([np.asarray(each) for each in self._pixels[start : start + SHARD]])
                        yield _Task(still, name, here, pixels, frames, lacking)


@dataclass(frozen=True, eq=False)
class _Task:
    """Some pictures, of which frames or logits of a still are missing; of the picture itself the frame is b""."""

    still: Still | None
    key: str
    pictures: list[str]
    pixels: NDArray[np.uint8]
    frames: list[bytes | None]
    models: dict[str, Model]


_Seen = tuple[_Task, list[bytes], dict[str, NDArray[np.float32]]]
"""A task, the frames of all its pictures, and the logits of its models by their keys."""
_loaded: dict[str, Classifier] = {}
"""Of this process."""


def _looks(tasks: Sequence[_Task], processes: int) -> Iterator[_Seen]:
    """Tasks as they are done."""
    if processes <= 1:
        yield from map(_look, tasks)
        return
    # torch does not survive a fork
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_look, task) for task in tasks]):
            yield future.result()


def _keep(
    database: sqlite3.Connection, task: _Task, frames: list[bytes], logits: dict[str, NDArray[np.float32]]
) -> None:
    """Writes what was found of a task's pictures."""
    database.executemany(
        "INSERT OR REPLACE INTO frames VALUES (?, ?, ?)",
        [(picture, task.key, frame) for picture, frame in zip(task.pictures, frames, strict=True)],
    )
    for model, answers in logits.items():
        database.executemany(
            "INSERT OR REPLACE INTO logits VALUES (?, ?, ?, ?)",
            [
                (picture, task.key, model, answer.tobytes())
                for picture, answer in zip(task.pictures, answers, strict=True)
            ],
        )


def _look(task: _Task) -> _Seen:
    """Encodes what is not encoded yet, decodes, and asks the models."""
    if task.still is None:
        frames, shown = [b""] * len(task.pixels), task.pixels
    else:
        still = task.still
        frames = [
            still.frame(picture) if frame is None else frame
            for picture, frame in zip(task.pixels, task.frames, strict=True)
        ]
        shown = np.stack([decoded(frame) for frame in frames])
    answers = {}
    for key, model in task.models.items():
        if key not in _loaded:
            _loaded[key] = load_classifier(model.name, model.weights)
        answers[key] = _loaded[key].logits(shown)
    return task, frames, answers


def decoded(frame: bytes) -> NDArray[np.float64]:
    """(224, 224, 3) pixels of a codec frame that is sound."""
    return coder.decode(CodecFrame.from_bytes(frame))
