"""How long the model takes, measured; and so, how long whoever comes now would wait for an answer."""

SMOOTHING = 0.2
"""Weight of the latest batch in what was measured."""
MARGIN = 0.85
"""Of the time that answers are to take at most, what may be expected of them: the model is not always as quick."""


class Speed:
    """The time of a batch: so long for one image, so much longer for each further one.

    Both are measured at the start. What later batches take then scales them together, as a machine gets slower
    that has others to serve too.
    """

    def __init__(self, max_batch: int) -> None:
        """Nothing is known yet: everything takes no time."""
        self._max_batch = max_batch
        self._one = self._more = 0.0

    def start(self, one: float, full: float) -> None:
        """Seconds that a single image took, and a full batch."""
        self._one = one
        self._more = min(max(full - one, 0.0) / (self._max_batch - 1), one) if self._max_batch > 1 else one

    def batch(self, images: int) -> float:
        """Seconds that a batch of so many images takes."""
        return self._one + (images - 1) * self._more if images else 0.0

    def wait(self, looked_at: int, waiting: int) -> float:
        """Seconds until all of these are done: a batch of `looked_at` now, then those that wait, in batches."""
        full, rest = divmod(waiting, self._max_batch)
        return self.batch(looked_at) + full * self.batch(self._max_batch) + self.batch(rest)

    @property
    def usual_bound(self) -> float:
        """Seconds within which everybody is to be answered if nobody says otherwise.

        A full batch and three single images, less a margin: where a full batch takes little longer than a single
        image, that is room for one that is looked at and one that waits; where it takes as long as all its images
        alone, there is no use in waiting for so long. There is always room for one more beside a full batch.
        """
        full = self.batch(self._max_batch)
        return max(MARGIN * (full + 3 * self._one), full + self._one)

    def measure(self, images: int, seconds: float) -> None:
        """A batch of so many images took so long."""
        expected = self.batch(images)
        if not expected:
            self._one = self._more = seconds / images
            return
        factor = 1 + SMOOTHING * (seconds / expected - 1)
        self._one *= factor
        self._more *= factor
