"""OpenVINO export of a trained channel mapper and demapper, in float16, with numbers to check an engine by."""

import warnings
from pathlib import Path
from typing import Any

import torch
from openvino import Model, convert_model, save_model

from semlink.access.learned.bandwidth import TOKEN_BITS, TOKENS
from semlink.access.learned.mapper import ChannelDemapper, ChannelMapper

CHECK_SNR_DB = 10.0


def export_access(mapper: ChannelMapper, demapper: ChannelDemapper, folder: Path) -> dict[str, Any]:
    """Writes mapper.xml, demapper.xml and their .bin.

    Args:
        mapper: on the CPU.
        demapper: of the same link.
        folder: exists.

    Returns:
        What torch answers to one tile whose bits alternate, which `engine.LearnedAccess` checks itself by: the
        first token's symbols, and the first token's probabilities where these symbols arrive undamaged.
    """
    mapper.eval().requires_grad_(False)  # or else the tracer takes no parameter for a constant
    demapper.eval().requires_grad_(False)
    symbols = mapper.link.symbols
    bits = torch.arange(2 * TOKENS * TOKEN_BITS).reshape(2, TOKENS, TOKEN_BITS) % 2
    snr_db, used = torch.full((2,), CHECK_SNR_DB), torch.full((2,), float(symbols))
    with torch.no_grad():
        sent = mapper(bits.float(), snr_db, used)
        gain = torch.ones(sent.shape[:3])
        seen = demapper(sent, gain, snr_db, used)
    any_number = -1
    graphs = {
        "mapper": _graph(mapper, (bits.float(), snr_db, used), [any_number]),
        "demapper": _graph(demapper, (sent, gain, snr_db, used), [any_number]),
    }
    for name, graph in graphs.items():
        save_model(graph, folder / f"{name}.xml", compress_to_fp16=True)
    return {"symbols": sent[0, 0].flatten().tolist(), "probabilities": seen[0, 0].tolist()}


def _graph(network: torch.nn.Module, example: tuple[torch.Tensor, ...], batch: list[int]) -> Model:
    with warnings.catch_warnings(), torch.no_grad():
        # torch calls the tracer deprecated that OpenVINO builds on, and says that sizes become constants.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, example, check_trace=False)
        return convert_model(traced, input=[[*batch, *each.shape[1:]] for each in example])
