"""A model's card: what its weights are and where they come from, beside them as JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.provenance import provenance


def write_card(weights: Path, options: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """Writes NAME.json beside NAME.safetensors; returns what it says.

    Args:
        weights: the weights file.
        options: dataclass of how it was trained; its `model` is the model's timm name.
        facts: what else there is to say.
    """
    told = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    card = {"model": options.model, **facts, "options": told, **provenance()}
    weights.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card
