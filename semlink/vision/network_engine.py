"""Network of one tensor, run by OpenVINO where it can be had and by torch elsewhere.

For networks that are parts of something else and have no `--engine` of their own: OpenVINO takes about half of
torch's time (benchmarks/decoders.py), and its float32 answers differ by rounding alone.
"""

from collections.abc import Callable
from functools import cache, cached_property
from threading import Lock
from typing import TYPE_CHECKING

import structlog
import torch
from torch import Tensor, nn

from semlink.vision.engines import EngineError, openvino_engine

if TYPE_CHECKING:
    from openvino import Model

log = structlog.get_logger(__name__)


class NetworkEngine:
    """A network in float32, converted when it is first needed; any number of threads may call it, in turn.

    It takes as many CPU threads as torch has in this process at that time.

    Args:
        network: a module of one tensor (B, *size); from its conversion on its parameters have no gradients.
        size: of the tensor without B, which may be any number. Values are expected within [0, 1].
        name: of the network, in the log.

    Example:
        >>> engine = NetworkEngine(nn.Linear(3, 2), (3,), "an example")
        >>> engine(torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(self, network: nn.Module, size: tuple[int, ...], name: str) -> None:
        """Converts nothing yet."""
        self._network, self._size, self._name = network, size, name
        self._lock = Lock()

    def __call__(self, values: Tensor) -> Tensor:
        """(B, *size) float32 -> what the network makes of it."""
        with self._lock:
            return self._run(values)

    def start(self) -> None:
        """Converts the network now rather than within the first call."""
        with self._lock:
            self._run  # noqa: B018 - it is made by being looked at

    @cached_property
    def _run(self) -> Callable[[Tensor], Tensor]:
        self._network.requires_grad_(False)

        def graph() -> "Model":
            from semlink.vision.openvino_graph import graph_of

            return graph_of(self._network, self._size, None)

        example = torch.rand(2, *self._size, generator=torch.Generator().manual_seed(0))
        try:
            return openvino_engine(graph, self._by_torch, example, self._name, torch.get_num_threads())
        except EngineError as error:
            _tell(str(error))
            return self._by_torch

    @torch.inference_mode()
    def _by_torch(self, values: Tensor) -> Tensor:
        answer: Tensor = self._network(values)
        return answer


@cache
def _tell(reason: str) -> None:
    """Logs why torch is used, once for each reason."""
    log.warning("networks run by torch, which is slower", reason=reason)
