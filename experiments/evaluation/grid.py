"""Grid of cells: every combination of methods, ratios and channels; and the cell that a row is about."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.evaluation.cells import DIGEST, Cell, digest_of
from experiments.evaluation.frame_cells import CLEAN, FrameCell, channel_ber, weighs
from experiments.evaluation.planned_cells import PlannedCell
from experiments.evaluation.planned_source_cells import PlannedSourceCell
from experiments.evaluation.policy_cells import PolicyCell, is_policy
from experiments.evaluation.source_cells import MODELS, Coding, SourceCell
from semlink.access.mapping import SubcarrierMapping
from semlink.access.planner import PlanMethod
from semlink.channel.base import Channel, channel_type
from semlink.channel.planned import is_planned

Aimed = Mapping[str, Any]
"""Fields of a policy's cell beside its channel."""
MOST_CELLS = 2000
"""Most cells of a grid: each takes from seconds to minutes."""


def grid(
    channels: Sequence[Channel],
    *,
    methods: Sequence[str] = (),
    gammas: Sequence[float] = (1.0,),
    told: bool = False,
    plans: Sequence[PlanMethod] = (),
    load_plans: Sequence[PlanMethod] = (),
    mappings: Sequence[SubcarrierMapping] = (SubcarrierMapping.IMPORTANCE,),
    rhos: Sequence[float],
    sources: Sequence[tuple[str, Coding]] = (),
    policies: Sequence[Aimed] = (),
) -> list[Cell]:
    """Every combination, each once, after the clean cell.

    Args:
        channels: what images cross.
        methods: for channels without plans, names of allocation methods and codecs; a protected codec is the plain
            one where μ = 0. The clean cell, which there always is, may be named too.
        gammas: shapes γ, for the methods that weigh.
        told: adds the paper's modified methods, which know the bit error rate of channels that have one.
        plans: for channels that take plans, how IAQ's frames are planned.
        load_plans: for these too, how the frames of `sources` are planned.
        mappings: for these too, which subchannels important patches get.
        rhos: ratios ρ.
        sources: names of source coders other than IAQ, and their settings.
        policies: for channels without plans, policies and what each aims at.

    Raises:
        ValueError: no such method or source coder, a setting out of its range, or more than `MOST_CELLS` cells.
    """
    sent_by = [method for method in methods if method != CLEAN]
    planned = [channel for channel in channels if is_planned(channel)]
    plain = [channel for channel in channels if not is_planned(channel)]
    _check_size(
        (1 + told) * math.prod(map(len, (sent_by, rhos, gammas, plain)))
        + math.prod(map(len, (plans, mappings, rhos, planned)))
        + len(sources) * (len(plain) + math.prod(map(len, (load_plans, mappings, planned))))
        + len(policies) * len(plain)
    )
    cells: dict[Cell, None] = {FrameCell(): None}
    for method, rho, gamma, channel in itertools.product(sent_by, rhos, gammas, plain):
        sent = FrameCell(channel, method, rho, gamma if weighs(method) else 1.0)
        cells[sent] = None
        if told and weighs(method) and (ber := channel_ber(channel)) > 0:
            cells[replace(sent, design_ber=ber)] = None
    for (source, coding), channel in itertools.product(sources, plain):
        cells[SourceCell(channel, source, coding)] = None
    for (source, coding), plan, mapping, link in itertools.product(sources, load_plans, mappings, planned):
        cells[PlannedSourceCell(link, source, coding, plan, mapping)] = None
    for aimed, channel in itertools.product(policies, plain):
        cells[PolicyCell(channel, **aimed)] = None
    for plan, rho, mapping, link in itertools.product(plans, rhos, mappings, planned):
        cells[PlannedCell(link, plan, rho, mapping)] = None
    return list(cells)


def _check_size(cells: int) -> None:
    """ValueError above `MOST_CELLS`."""
    if cells > MOST_CELLS:
        raise ValueError(f"the grid has {cells:,} cells; at most {MOST_CELLS:,} are measured in one run")


def cell_of(row: Mapping[str, Any]) -> Cell | None:
    """The cell that a row is about; None if it is about a setting or a channel that is no more.

    What the row does not say, because it is older, was at its default.
    """
    settings = dict(row["cell"])
    try:
        parameters = dict(settings.pop("channel"))
        digest = parameters.pop(DIGEST, None)
        channel = channel_type(parameters.pop("type"))(**parameters)
        if digest_of(channel) != digest:
            return None  # of a file that holds something else by now
        if is_policy(settings):
            return PolicyCell(channel, **settings)
        if "coding" in settings:
            settings["coding"] = tuple(settings["coding"].items())
            models = settings.pop(MODELS, None)
            found = (
                PlannedSourceCell(channel, **settings) if is_planned(channel) else SourceCell(channel, **settings)
            )
            return found if models == found.coder.models_digest else None
        return PlannedCell(channel, **settings) if is_planned(channel) else FrameCell(channel, **settings)
    except (KeyError, OSError, TypeError, ValueError):
        return None
