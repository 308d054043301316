"""Two rows about the same images, compared answer by answer: single views, and the votes of four."""

from experiments.evaluation.evaluation import groups_of_views
from experiments.evaluation.intervals import difference
from experiments.evaluation.rows import from_hex
from experiments.evaluation.run import Run

ANSWERS = {"single": "correct", "four_view": "correct_votes"}
"""Which answers were correct, in a row, by the name of their accuracy."""

Things = dict[str, list[str]]
"""What each image shows (`single`), and each group of views that vote together (`four_view`)."""


def things_of(run: Run) -> Things:
    """What is seen of the images that a run measures on."""
    examples = run.images().examples
    groups = groups_of_views(examples)
    return {
        "single": [example.thing for example in examples],
        "four_view": [examples[first].thing for first, *_ in groups],
    }


def paired_gain(first: dict, second: dict, views: str, things: Things) -> dict[str, float | int] | None:
    """The first row's accuracy less the second one's, see `difference`.

    Args:
        first: a row.
        second: another one, of the same images.
        views: `single` or `four_view`.
        things: of these images.

    Returns:
        None where there are no groups, or a row does not say which votes were correct, because it is older.
    """
    ours, theirs = (row.get(ANSWERS[views]) for row in (first, second))
    if ours is None or theirs is None:
        return None
    count = len(things[views])
    return difference(from_hex(ours, count), from_hex(theirs, count), things[views])
