"""Calibration for tests of dialogues: one by which every view that is not sure is asked, whatever the models."""

import json
from pathlib import Path

from semlink.decision.calibration import Calibration, Curve, OperatingPoint, Rung, as_json


def eager_calibration(folder: Path) -> Path:
    """A file by which bits cost nothing and a look makes nearly sure: the least sure view is asked in any case."""
    rung = Rung(side=64, budget_bytes=600, mean_bytes=600, opinion_weight=1, look_weight=1, after=(5.0, 0.0))
    curve = Curve((OperatingPoint(price=0, accuracy_loss=0, bits=1000),))
    path = folder / "calibration.json"
    path.write_text(json.dumps(as_json(Calibration("stub", "grey", 1.0, 0.0, (rung,), curve, curve))))
    return path
