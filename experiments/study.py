"""Study: how an image set is measured for the figures, from which rows, and where rows and pictures go."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.data.image_sets import ImageSetError
from experiments.evaluation.cells import Cell
from experiments.evaluation.frame_cells import FrameCell
from experiments.evaluation.grid import grid
from experiments.evaluation.measurement import Rows, measure_cells, measure_plans
from experiments.evaluation.planned_cells import PlannedCell
from experiments.evaluation.run import Run
from semlink.channel.bsc import BinarySymmetricChannel
from semlink.vision.weights import DEVICE_MODEL, PRETRAINED, SERVER_MODEL

RESULTS = Path(__file__).parent / "results"
"""The committed rows, pictures and tables."""


@dataclass(frozen=True)
class Study:
    """How an image set is measured.

    Attributes:
        only: the images that no model has been trained on.
        rhos: ratios ρ of the figures.
        weights: folder of the models for its classes; None for those of ImageNet-1k.
        most_images: of a large set, as many as take minutes.
        bfloat16: the server computes in bfloat16; DeiT-Small always does.
    """

    only: str
    rhos: tuple[float, ...]
    weights: Path | None = None
    most_images: int | None = None
    bfloat16: bool = True


STUDIES = {
    "imagenet-sample-1000": Study("label=odd", (1 / 16, 1 / 8, 1 / 4, 1 / 2), bfloat16=False),
    "eth80": Study("fold=0", (1 / 32, 1 / 16, 1 / 8, 1 / 4), PRETRAINED / "eth80", most_images=320),
    "cifar10": Study("split=test", (1 / 16, 1 / 8, 1 / 4), Path("runs/models/cifar10"), most_images=300),
}
"""By the name of the image set's folder."""


@dataclass(frozen=True)
class Measured:
    """An image set, what is measured of it, and where that goes.

    Attributes:
        data: folder of the image set, whose name is one of `STUDIES`.
        out: folder of rows, pictures and tables. Rows of `RESULTS` are used wherever it is, and not written to
            unless it is `out`.
        most_images: instead of the study's.
        seed: of the channels.
        processes: how many work at once.
    """

    data: Path
    out: Path
    most_images: int | None = None
    seed: int = 0
    processes: int = 2

    @property
    def name(self) -> str:
        """Of the image set."""
        return self.data.name

    @property
    def study(self) -> Study:
        """How it is measured.

        Raises:
            ImageSetError: nothing is known of this set.
        """
        if self.name not in STUDIES:
            raise ImageSetError(
                f"{self.data}: the figures are of the sets {', '.join(STUDIES)}; another one is measured by "
                "semlink evaluate"
            )
        return STUDIES[self.name]

    def run(
        self, *, prefix: str = "", server_model: str = DEVICE_MODEL, server_weights: Path | None = None
    ) -> Run:
        """How the set is measured into the rows PREFIXNAME.jsonl.

        The device runs DeiT-Tiny, and so does the server unless said otherwise, because it takes a third of the
        time.
        """
        study, rows = self.study, f"{prefix}{self.name}.jsonl"
        return Run(
            data=self.data,
            only=study.only,
            out=self.out / rows,
            known=(RESULTS / rows,) if self.out != RESULTS else (),
            cache=Path("runs/cache"),
            most_images=study.most_images if self.most_images is None else self.most_images,
            device_weights=study.weights,
            server_model=server_model,
            server_weights=server_weights or study.weights,
            bfloat16=study.bfloat16 or server_model == SERVER_MODEL,
            seed=self.seed,
            processes=self.processes,
        )

    def over_bsc(
        self,
        methods: Sequence[str],
        rhos: Sequence[float],
        bers: Sequence[float],
        gammas: Sequence[float] = (1.0,),
        *,
        told: bool = False,
        server_model: str = DEVICE_MODEL,
        server_weights: Path | None = None,
    ) -> Rows:
        """Rows of every combination over a binary symmetric channel, of which missing ones are measured."""
        channels = [BinarySymmetricChannel(ber=ber) for ber in bers]
        cells = grid(channels, methods=methods, gammas=gammas, told=told, rhos=rhos)
        return measure_cells(self.run(server_model=server_model, server_weights=server_weights), cells)

    def latencies(self, cells: Sequence[PlannedCell]) -> Rows:
        """Rows of the cells' latencies, of which those that are not there yet are planned; nothing is sent."""
        return measure_plans(self.run(prefix="ofdm-"), cells)

    def accuracies(self, cells: Sequence[Cell]) -> Rows:
        """Rows of the clean cell and of cells over MIMO-OFDM, of which missing ones are measured."""
        return measure_cells(self.run(prefix="ofdm-"), [FrameCell(), *cells])
