"""Processor features without which a test cannot run: make numeric stands for older processors."""

import pytest
import torch

needs_openvino = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() == "DEFAULT",
    reason="OpenVINO needs AVX2: below, it answers nothing at all",
)
