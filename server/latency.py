"""Latency model: how long a batch takes by its size, and so, how long a new request would wait for its answer."""

SMOOTHING = 0.2
"""Weight of the latest batch in the estimate."""
MARGIN = 0.85
"""Share of the longest acceptable latency that is planned with: some batches take longer than estimated."""


class LatencyModel:
    """The time of a batch: that of one image, and so much more for each further one.

    Both are measured at the start. The times of later batches scale both together, as a machine gets slower or
    faster with its other load.
    """

    def __init__(self, max_batch: int) -> None:
        """Before the first measurement, every estimate is 0."""
        self._max_batch = max_batch
        self._one = self._more = 0.0

    def start(self, one: float, full: float) -> None:
        """Sets the seconds that a single image took, and a full batch."""
        self._one = one
        self._more = min(max(full - one, 0.0) / (self._max_batch - 1), one) if self._max_batch > 1 else one

    def batch(self, images: int) -> float:
        """Seconds that a batch of so many images takes."""
        return self._one + (images - 1) * self._more if images else 0.0

    def wait(self, running: int, waiting: int) -> float:
        """Seconds until all are done: a batch of `running` images, then those `waiting`, in batches."""
        full, rest = divmod(waiting, self._max_batch)
        return self.batch(running) + full * self.batch(self._max_batch) + self.batch(rest)

    @property
    def usual_bound(self) -> float:
        """The default for the longest acceptable latency, in seconds.

        A full batch and three single images, less a margin: where a full batch takes little longer than a single
        image, one batch can run and one wait; where it takes as long as all its images alone, waiting for so long
        is of no use. There is always room for one image more beside a full batch.
        """
        full = self.batch(self._max_batch)
        return max(MARGIN * (full + 3 * self._one), full + self._one)

    def measure(self, images: int, seconds: float) -> None:
        """Adapts to a batch of so many images that took so long."""
        expected = self.batch(images)
        if not expected:
            self._one = self._more = seconds / images
            return
        factor = 1 + SMOOTHING * (seconds / expected - 1)
        self._one *= factor
        self._more *= factor
