"""Stratified hold-out: a share of every class, whole samples, chosen by the hash of their names."""

import hashlib
from collections.abc import Collection, Mapping

SHOWN = 8


def stratified(
    samples: Mapping[str, Collection[str]], share: float, key: str, least_left: int = 1
) -> dict[str, set[str]]:
    """Chooses a share of the samples of every class, at least one of each, as far as enough are left.

    A sample is chosen by the SHA-256 of the key, its class and its name: always the same ones on every machine, in
    whatever order they come, and nearly the same ones after a few were added.

    Args:
        samples: names of the samples of every class; a sample is an object, or an image of its own.
        share: of each class's samples, within (0, 1).
        key: another one makes another choice.
        least_left: so many samples of a class are not chosen, or all where it has no more.

    Returns:
        The chosen samples of every class.

    >>> chosen = stratified({"cat": "abcdefghij", "dog": "kl"}, 0.2, "hold-out")
    >>> {name: len(names) for name, names in chosen.items()}
    {'cat': 2, 'dog': 1}
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be within (0, 1), not {share}")
    chosen = {}
    for name, members in samples.items():
        count = max(0, min(max(1, round(share * len(members))), len(members) - least_left))

        def rank(member: str, of: str = name) -> str:
            return hashlib.sha256("\0".join((key, of, member)).encode()).hexdigest()

        chosen[name] = set(sorted(members, key=rank)[:count])
    return chosen


def listed(names: Collection[str]) -> str:
    """Names for a message: the first few, and how many more there are."""
    shown = [repr(name) for name in sorted(names)[:SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
