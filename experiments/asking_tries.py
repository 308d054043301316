"""Tries of the dialogue, each worth alone: rungs, opinions, fusing, crops, own looks, AV1 settings, refinement.

What was tried is compared with what it would replace, on the same photos of odd labels, all fitted on even ones,
error-free, at the same mean bits a view (`BUDGET_BITS`) where there is a choice. What models make of stills of
every kind is measured by `experiments.still_kinds`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from experiments.calibrating import OPINION_BITS, Decided, Policy, Replay, Seen, Table, ask, fit_rungs, send_alone
from experiments.classifiers import STAND_IN
from experiments.evaluation.intervals import accuracy, difference
from experiments.provenance import described, provenance
from experiments.still_kinds import LABELS, VARIED, Answers, kinds
from experiments.tables import write_table
from semlink.decision.belief import Belief
from semlink.decision.calibration import Calibration, Rung
from semlink.vision.images import IMAGE_SIZE
from semlink.vision.weights import DEVICE_MODEL, SERVER_MODEL

SERVERS = STAND_IN, SERVER_MODEL
BUDGET_BITS = 12_000.0
"""Mean bits of a view: a true ratio of 0.01."""
CLASSES = 1000
"""Of ImageNet-1k."""
NEVER = -30.0
"""Logarithm of the probability of a class that is not to be seen."""
RUNGS = "112, 753", "160, 1505", "224, 6020", "224, 12040"
"""Kinds of stills that a dialogue has, where nothing else is said."""


@dataclass(frozen=True, eq=False)
class Looks:
    """What was measured of stills, see `experiments.still_kinds`.

    Attributes:
        labels: (B,) classes of the photos.
        sizes: (B,) bytes by kind.
        answers: of a model to a kind.
    """

    labels: NDArray[np.int64]
    sizes: dict[str, NDArray]
    answers: dict[tuple[str, str], NDArray[np.float64]]

    @property
    def servers(self) -> list[str]:
        """That were asked."""
        return [server for server in SERVERS if (server, "clean") in self.answers]

    def table(self, server: str, names: Sequence[str]) -> Table:
        """Of the kinds of these names, as rungs of a dialogue."""
        kind_of = {kind.name: kind for kind in kinds()}
        looks = {
            (kind_of[name].side, kind_of[name].budget_bytes): Seen(
                self.answers[server, name], self.answers[DEVICE_MODEL, name], self.sizes[name]
            )
            for name in names
        }
        device = self.answers[DEVICE_MODEL, "clean"]
        return Table(self.labels, device, self.answers[server, "clean"], looks, np.arange(len(self.labels)))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of the photos of odd labels.

    Attributes:
        right: whether each was recognised.
        bits: mean of a view.
    """

    right: list[bool]
    bits: float


def read_looks(folder: Path) -> Looks:
    """The files of a folder that `python -m experiments.still_kinds` wrote."""
    with np.load(folder / "sizes.npz") as file:
        sizes = dict(file)
    answers = {}
    for model in (DEVICE_MODEL, *SERVERS):
        if (path := folder / f"{model}.npz").is_file():
            with np.load(path) as file:
                for kind in sizes:
                    labels, logs, named_logs = (
                        file[f"{kind}|{part}"] for part in ("labels", "logs", "named_logs")
                    )
                    kept = Answers(labels, logs, file["named"], named_logs, CLASSES)
                    answers[model, kind] = kept.log_probabilities()
    return Looks(np.load(folder / LABELS), sizes, answers)


def halves(table: Table) -> tuple[Table, Table]:
    """Photos of even labels, to fit on, and of odd ones."""
    even = table.labels % 2 == 0
    return table.part(np.flatnonzero(even)), table.part(np.flatnonzero(~even))


def played(
    table: Table,
    policy: Policy = ask,
    changed: Callable[[Calibration], Calibration] | None = None,
) -> Outcome:
    """A policy on the odd half, at the price that leads to the budget on the even half.

    Args:
        table: of both halves.
        policy: of the views of an object, at a price.
        changed: makes another calibration of the fitted one.
    """
    even, odd = halves(table)
    calibration = fit_rungs(even, DEVICE_MODEL, "server")
    if changed is not None:
        calibration = changed(calibration)
    price = price_of(Replay(even, calibration), policy, BUDGET_BITS)
    decided = _decisions(Replay(odd, calibration), policy, price)
    right = [bool(each.label == label) for each, label in zip(decided, odd.labels, strict=True)]
    return Outcome(right, float(np.mean([each.bits for each in decided])))


def price_of(replay: Replay, policy: Policy, budget_bits: float) -> float:
    """The lowest price at which photos keep to a mean of bits, to a tenth of a percent."""
    low, high = np.log(1e-8), np.log(1e-2)
    for _ in range(14):
        middle = (low + high) / 2
        spent = np.mean([each.bits for each in _decisions(replay, policy, float(np.exp(middle)))])
        low, high = (low, middle) if spent <= budget_bits else (middle, high)
    return float(np.exp(high))


def _decisions(replay: Replay, policy: Policy, price: float) -> list[Decided]:
    return [policy(replay, view, price) for view in replay.table.views()]


def looked_at(table: Table) -> Outcome:
    """Every photo sent in the table's one rung, and its look fused with the opinion."""
    even, odd = halves(table)
    calibration = fit_rungs(even, DEVICE_MODEL, "server")
    (rung,) = calibration.rungs
    replay = Replay(odd, calibration)
    right = [bool(replay.looked(view, rung).label == label) for view, label in enumerate(odd.labels)]
    return Outcome(right, OPINION_BITS + 8 * float(replay.seen(rung).sizes.mean()))


def one_class(table: Table) -> Table:
    """Opinions that name the likeliest class alone."""
    device = [Belief.of(softmax(each), named=1).log_probabilities() for each in table.device]
    return replace(table, device=np.array(device))


def without_fusing(calibration: Calibration) -> Calibration:
    """Looks that speak for themselves."""
    return _weighted(calibration, lambda rung: (0.0, 1.0))


def one_weight(calibration: Calibration) -> Calibration:
    """The same weights for all rungs: the means of theirs."""
    opinion, look = (
        float(np.mean([getattr(rung, f"{which}_weight") for rung in calibration.rungs]))
        for which in ("opinion", "look")
    )
    return _weighted(calibration, lambda rung: (opinion, look))


def _weighted(calibration: Calibration, weights: Callable[[Rung], tuple[float, float]]) -> Calibration:
    rungs = [
        replace(rung, opinion_weight=weights(rung)[0], look_weight=weights(rung)[1]) for rung in calibration.rungs
    ]
    return replace(calibration, rungs=tuple(rungs))


def among_named(table: Table, named: int = 5) -> Table:
    """Looks that see none but the classes that an opinion names."""
    hidden = np.ones_like(table.device, bool)
    np.put_along_axis(hidden, np.argsort(-table.device, axis=1)[:, :named], False, axis=1)
    looks = {
        rung: replace(seen, server=np.where(hidden, NEVER, seen.server)) for rung, seen in table.looks.items()
    }
    return replace(table, looks=looks)


def send_unseen(replay: Replay, views: NDArray[np.intp], price: float) -> Decided:
    """One way, without looking at its own stills: the rung whose expected gain less its price is highest."""
    (view,) = map(int, views)
    opinion = replay.opinions[view]
    net = {
        rung: float(rung.accuracy_after(opinion.confidence)) - opinion.confidence - price * rung.bits
        for rung in replay.calibration.rungs
    }
    best = max(net, key=lambda rung: net[rung])
    if net[best] <= 0:
        return Decided(opinion.label, OPINION_BITS)
    return Decided(replay.looked(view, best).label, OPINION_BITS + 8 * float(replay.seen(best).sizes[view]))


def ask_twice(replay: Replay, views: NDArray[np.intp], price: float) -> Decided:
    """A small picture first where any is worth its bits; then the one that is, if one still is."""
    (view,) = map(int, views)
    rungs = replay.calibration.rungs
    first, opinion = rungs[0], replay.opinions[view]
    if _best(replay, opinion.confidence, price) is None:
        return Decided(opinion.label, OPINION_BITS)
    bits = OPINION_BITS + 8 * float(replay.seen(first).sizes[view])
    belief = replay.looked(view, first)
    if (second := _best(replay, belief.confidence, price)) not in (None, first):
        assert second is not None
        bits += 8 * float(replay.seen(second).sizes[view])
        belief = replay.looked(view, second)
    return Decided(belief.label, bits)


def _best(replay: Replay, confidence: float, price: float) -> Rung | None:
    net = {
        rung: float(rung.accuracy_after(confidence)) - confidence - price * rung.bits
        for rung in replay.calibration.rungs
    }
    best = max(net, key=lambda rung: net[rung])
    return best if net[best] > 0 else None


@dataclass(frozen=True)
class Try:
    """A comparison: what was tried, what with, and what each gives."""

    what: str
    instead_of: str
    tried: Callable[[Looks, str], Outcome]
    replaced: Callable[[Looks, str], Outcome]


def all_tries(measured: set[str]) -> list[Try]:
    """In the order of the list of what to try, as far as the kinds of stills are measured."""

    def dialogue(
        *names: str,
        policy: Policy = ask,
        table: Callable[[Table], Table] = lambda table: table,
        calibration: Callable[[Calibration], Calibration] | None = None,
    ) -> Callable[[Looks, str], Outcome]:
        there = names or [name for name in RUNGS if name in measured]
        return lambda looks, server: played(table(looks.table(server, there)), policy, calibration)

    @cache
    def rung(name: str) -> Callable[[Looks, str], Outcome]:
        return lambda looks, server: looked_at(looks.table(server, [name]))

    several = "rungs " + "; ".join(name for name in RUNGS if name in measured)
    plain, alone = dialogue(), dialogue(policy=send_alone)
    tries = [
        *(Try(several, f"one rung: {name}", plain, dialogue(name)) for name in RUNGS[1:] if name in measured),
        Try("opinion of five classes", "of one", plain, dialogue(table=one_class)),
        Try("fusing, weights of each rung", "looks alone", plain, dialogue(calibration=without_fusing)),
        Try("fusing, weights of each rung", "one pair of weights", plain, dialogue(calibration=one_weight)),
    ]
    varied = {f"{side}, {budget}" for side, budget in VARIED}
    single = [
        Try(kind.name, stem, rung(kind.name), rung(stem))
        for kind in kinds()
        if (stem := ", ".join(kind.name.split(", ")[:2])) != kind.name
        if (kind.refines is not None or stem in varied) and {kind.name, stem} <= measured
    ]
    crops = [each for each in single if "window" in each.what]
    settings = [each for each in single if "options" in each.what or "codec" in each.what]
    tries += [
        *crops,
        Try("one way: looking at its own stills", "not looking", alone, dialogue(policy=send_unseen)),
        Try("looks at the opinion's classes alone", "at all classes", dialogue(table=among_named), plain),
        *settings,
        *(each for each in single if "background" in each.what),
        *(each for each in single if "refines" in each.what),
        Try("a small picture first, then the right one", "the right one", dialogue(policy=ask_twice), plain),
    ]
    return tries


def measure(looks: Looks) -> list[dict[str, Any]]:
    """A row for each try and server; what serves several tries is computed once."""
    outcome = cache(lambda how, server: how(looks, server))
    odd = [str(label) for label in looks.labels if label % 2]
    rows = []
    for each in all_tries(set(looks.sizes)):
        for server in looks.servers:
            tried, replaced = outcome(each.tried, server), outcome(each.replaced, server)
            rows.append(
                {
                    "tried": each.what,
                    "instead_of": each.instead_of,
                    "server": server,
                    "accuracy": accuracy(tried.right, odd),
                    "bits": tried.bits,
                    "accuracy_instead": accuracy(replaced.right, odd),
                    "bits_instead": replaced.bits,
                    "gain": difference(tried.right, replaced.right, odd),
                }
            )
            print(each.what, "|", each.instead_of, "|", server, _gain(rows[-1]), flush=True)
    return rows


def main(out: Path, measured: Path) -> None:
    """Writes asking-tries.json and asking-tries.md.

    Args:
        out: folder of the results.
        measured: folder of what `python -m experiments.still_kinds` wrote.
    """
    rows, origin = measure(read_looks(measured)), provenance()
    (out / "asking-tries.json").write_text(json.dumps({"rows": rows} | origin, indent=1) + "\n", encoding="utf-8")
    write_table(out / "asking-tries.md", _lines(rows, origin))


def _lines(rows: Sequence[dict[str, Any]], origin: dict[str, Any]) -> list[str]:
    share = BUDGET_BITS / (8 * 3 * IMAGE_SIZE**2)
    lines = [
        "# What was tried of the dialogue, each alone",
        "",
        f"{rows[0]['gain']['images']} photos of odd labels, fitted on those of even ones. Dialogues and links at",
        f"{BUDGET_BITS:,.0f} mean bits a view (a true ratio of {share:.3f}); single rungs with every photo sent",
        "and fused with the opinion; error-free. Gain in points with its 95 % interval, paired, photo by photo.",
        "",
        described(origin),
        "",
    ]
    for server in dict.fromkeys(row["server"] for row in rows):
        lines += [
            f"## Server {server}" + (", a stand-in" if server == STAND_IN else ""),
            "",
            "| tried | instead of | accuracy | instead | gain | bits | instead |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for row in rows:
            if row["server"] == server:
                lines.append(
                    f"| {row['tried']} | {row['instead_of']} | {100 * row['accuracy']['accuracy']:.1f} "
                    f"| {100 * row['accuracy_instead']['accuracy']:.1f} | {_gain(row)} "
                    f"| {row['bits']:,.0f} | {row['bits_instead']:,.0f} |"
                )
        lines.append("")
    return lines


def _gain(row: dict[str, Any]) -> str:
    middle, low, high = (100 * row["gain"][part] for part in ("difference", "low", "high"))
    return f"{middle:+.1f} ({low:.1f} to {high:.1f})"
