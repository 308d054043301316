"""Source coder of docs/add-a-coder.md in a process of the link: `python tests/grey_coder.py server --http-port 0`.

With GREY_LACKS in the environment, its models are said to be missing. It takes a frame without any patch for one
that is for another model.
"""

import os
import runpy
import sys
from pathlib import Path

from docs_examples import ROOT, blocks

from semlink.frame import FrameError
from semlink.vision.weights import WeightsError


def load(weights: Path | None) -> None:
    """The models, if there were any."""
    if os.environ.get("GREY_LACKS"):
        raise WeightsError(f"no grey.safetensors in {weights}")


def decode_own(frame):
    """The pixels of a frame for the model that is here."""
    if not frame.sent.any():
        raise FrameError("grid", "the frame is for another model")
    return globals()["decode"](frame)


if __name__ == "__main__":
    for code in blocks(ROOT / "docs" / "add-a-coder.md")[:2]:
        exec(code.replace("encode, decode))", "encode, decode_own, load))"))
    program = sys.argv.pop(1)
    if program == "semlink":
        from cli.main import main

        main()
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
