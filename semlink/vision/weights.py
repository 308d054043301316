"""Pretrained weights: the places that are searched for a model's file, in their order."""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PRETRAINED = Path(__file__).resolve().with_name("pretrained")
"""The models that come with the package; models/README.md describes them."""

MAX_WEIGHTS_BYTES = 2 << 30
HUB_PROBE_SECONDS = 3.0

DEVICE_MODEL = "deit_tiny_patch16_224"
SERVER_MODEL = "deit_small_patch16_224"

GROWN_FROM = {SERVER_MODEL: DEVICE_MODEL}
"""Models that can be grown from a smaller one, which see its mirror image too, where they are not at hand."""


class WeightsError(Exception):
    """No usable weights; the message lists where they were looked for and what to do."""


@dataclass(frozen=True)
class Weights:
    """A file of pretrained weights.

    Attributes:
        model: timm's name of the model that the file's weights are for.
        path: the safetensors file.
        place: where it was found, in words.
    """

    model: str
    path: Path
    place: str

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file in hexadecimal: what these weights are, wherever they lie."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def find_weights(model: str, folder: Path | None = None) -> Weights:
    """Finds the weights of a timm model, or those of the smaller model that it can be grown from.

    Searched in this order: `folder` (or SEMLINK_WEIGHTS), the package's own models, timm's hub; then the last two
    for the smaller model. In `folder` the smaller model comes before other places, because who names a folder
    wants what is in it. Only safetensors files are read, never pickles.

    Args:
        model: timm's name, such as deit_tiny_patch16_224.
        folder: a folder that holds NAME.safetensors.

    Raises:
        WeightsError: nothing was found, or `folder` does not exist.
    """
    tried: list[str] = []
    names = [model, GROWN_FROM[model]] if model in GROWN_FROM else [model]
    named = _named(folder)
    searches: list[tuple[str, str, Path | None]] = [(name, "--weights", named) for name in names if named]
    for name in names:
        searches += [(name, "models/", PRETRAINED), (name, "timm's hub", None)]
    for name, place, candidate in searches:
        found = _from_hub(name) if candidate is None else _in_folder(name, candidate)
        if isinstance(found, Path):
            return Weights(name, found, place)
        tried.append(f"{place}: {found}")
    raise WeightsError(
        f"no weights for {model}. Looked in:\n"
        + "".join(f"  - {line}\n" for line in tried)
        + f"Put {model}.safetensors into a folder and name it with --weights (or SEMLINK_WEIGHTS), "
        "or run once where the hub can be reached."
    )


def _named(folder: Path | None) -> Path | None:
    named = folder or (Path(os.environ["SEMLINK_WEIGHTS"]) if os.environ.get("SEMLINK_WEIGHTS") else None)
    if named is not None and not named.is_dir():
        raise WeightsError(f"--weights (or SEMLINK_WEIGHTS) must be a folder; {named} is none")
    return named


def _in_folder(name: str, folder: Path) -> Path | str:
    """Path of the model's file, or the reason why there is none."""
    path = folder / f"{name}.safetensors"
    return path if path.is_file() else f"no {path.name} in {folder}"


def _from_hub(model: str) -> Path | str:
    """Path of the hub's file in the local cache, downloaded if need be, or the reason why there is none."""
    import httpx
    import timm
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    try:
        configuration = timm.models.get_pretrained_cfg(model)
    except RuntimeError:  # a model that timm knows, with a tag that it does not
        configuration = None
    if configuration is None or not configuration.hf_hub_id:
        return f"timm knows no model {model} with pretrained weights"
    cached = try_to_load_from_cache(configuration.hf_hub_id, "model.safetensors")
    if isinstance(cached, str):
        return Path(cached)
    if constants.HF_HUB_OFFLINE:
        return "switched off by HF_HUB_OFFLINE"
    try:
        # Asked first, because the hub's client goes on trying for half a minute where there is no network.
        httpx.head(constants.ENDPOINT, timeout=HUB_PROBE_SECONDS)
        return Path(hf_hub_download(configuration.hf_hub_id, "model.safetensors", etag_timeout=HUB_PROBE_SECONDS))
    except Exception as error:  # the client raises many kinds; whichever it was, there is no file
        return f"{configuration.hf_hub_id} could not be fetched ({type(error).__name__}: {error})".splitlines()[0]
