"""In which precision training computes: bfloat16 where the machine has it, which halves the time, else float32."""

import torch


def device_and_precision() -> tuple[torch.device, torch.autocast]:
    """Where to train, and the context manager to run forward passes and losses in."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    has_bfloat16 = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device, torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16)
