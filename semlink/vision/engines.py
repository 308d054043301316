"""Inference engines: OpenVINO, the fastest measured (benchmarks/inference.py), or torch itself."""

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:  # torch takes seconds to load
    from openvino import Model
    from timm.models import VisionTransformer
    from torch import Tensor

EngineName = Literal["openvino", "torch"]
Answer = Literal["attention", "logits"]
Pair = Literal["tokens", "opinion"]

TOLERANCE = 1e-3
"""Of the largest value of torch's answer: float32 stays far below, another model or bfloat16 does not."""


class EngineError(RuntimeError):
    """The model cannot be run so; the message says what to do."""


@overload
def load_engine(
    name: EngineName, model: "VisionTransformer", answer: Answer, *, threads: int = 0, batch: int | None = None
) -> "Callable[[Tensor], Tensor]": ...


@overload
def load_engine(
    name: EngineName,
    model: "VisionTransformer",
    answer: Pair,
    *,
    threads: int = 0,
    batch: int | None = None,
) -> "Callable[[Tensor], tuple[Tensor, Tensor]]": ...


def load_engine(
    name: EngineName,
    model: "VisionTransformer",
    answer: Answer | Pair,
    *,
    threads: int = 0,
    batch: int | None = None,
) -> "Callable[[Tensor], Tensor] | Callable[[Tensor], tuple[Tensor, Tensor]]":
    """A function of normalised images (B, 3, H, W) that gives what a vision transformer makes of them, in float32.

    It is warm: it has answered a picture, and as torch does. One caller at a time may use it.

    Args:
        name: which engine.
        model: as `semlink.vision.vit.load_vit` gives it.
        answer: "attention" (B, N), see `semlink.vision.vit.class_attention`, "logits" (B, classes), "tokens"
            (B, N, D) and their attention (B, N), see `semlink.vision.vit.tokens_and_attention`, or "opinion",
            attention (B, N) and logits (B, classes), see `semlink.vision.vit.attention_and_logits`.
        threads: CPU threads of the engine; 0: its own choice. Beside OpenVINO, torch keeps to one in this process.
        batch: B, if it is always the same; that runs somewhat faster.

    Raises:
        EngineError: OpenVINO is not installed, or does not answer as torch does.
    """
    import torch

    from semlink.vision.vit import attention_and_logits, class_attention, tokens_and_attention

    def with_torch(images: "Tensor") -> Any:
        if answer == "attention":
            return class_attention(model, images)
        if answer == "tokens":
            return tokens_and_attention(model, images)
        if answer == "opinion":
            return attention_and_logits(model, images)
        with torch.inference_mode():
            return model(images)

    picture = torch.randn(batch or 1, 3, *model.patch_embed.img_size, generator=torch.Generator().manual_seed(0))
    if name == "torch":
        if threads:
            torch.set_num_threads(threads)
        with_torch(picture)
        return with_torch
    torch.set_num_threads(1)

    def graph() -> "Model":
        from semlink.vision.openvino_graph import openvino_graph

        return openvino_graph(model, answer, batch)

    try:
        return openvino_engine(graph, with_torch, picture, f"{answer} of {model.origin.model}", threads)
    except EngineError as error:
        raise EngineError(f"{error}; --engine torch does without") from error


def openvino_engine(
    graph: "Callable[[], Model]",
    with_torch: "Callable[[Tensor], Any]",
    example: "Tensor",
    what: str,
    threads: int,
) -> "Callable[[Tensor], Any]":
    """A function of a tensor by OpenVINO in float32 that has answered an example, and as torch does.

    Args:
        graph: makes the function's graph, with `semlink.vision.openvino_graph`, which is not loaded before.
        with_torch: the function, by torch.
        example: an argument of it.
        what: its answers, in messages.
        threads: CPU threads; 0: OpenVINO's own choice.

    Raises:
        EngineError: OpenVINO is not installed, or does not answer as torch does.
    """
    try:
        with_openvino = _compiled(graph, threads)
        found, wanted = with_openvino(example), with_torch(example)
    except ImportError as error:
        raise EngineError(f"OpenVINO cannot be loaded ({error}): pip install openvino") from error
    except (AttributeError, RuntimeError, ValueError) as error:
        raise EngineError(f"OpenVINO cannot run {what}: {error}") from error
    # On a CPU below its least instruction set, OpenVINO answers nothing at all and says so nowhere.
    difference = _difference(found, wanted)
    if not difference <= TOLERANCE:
        raise EngineError(f"OpenVINO's {what} differ from torch's by {difference:.1e} of the largest")
    return with_openvino


def _difference(found: Any, wanted: Any) -> float:
    """Largest difference of two answers, of the largest value; of two tensors each, the larger one's."""
    if isinstance(wanted, tuple):
        return max(_difference(*pair) for pair in zip(found, wanted, strict=True))
    return float((found - wanted).abs().max() / wanted.abs().max()) if found.shape == wanted.shape else inf


def _compiled(graph: "Callable[[], Model]", threads: int) -> "Callable[[Tensor], Any]":
    import torch

    model = graph()  # first: what makes it keeps OpenVINO from reporting

    import openvino  # isort: skip

    settings: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": "f32",  # where the CPU has it, bfloat16 is the default
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # processes that share a machine would be pinned to the same cores
    }
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(values: "Tensor") -> Any:
        outputs = request.infer([values.numpy()], share_inputs=True).to_tuple()
        tensors = tuple(torch.from_numpy(output) for output in outputs)
        return tensors[0] if len(tensors) == 1 else tensors

    return run
