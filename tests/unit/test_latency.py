import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.latency import LatencyModel

seconds = st.floats(1e-4, 100)


def test_a_batch_takes_one_image_and_so_many_more():
    latency = LatencyModel(5)
    latency.start(one=10, full=18)
    assert [latency.batch(images) for images in range(6)] == [0, 10, 12, 14, 16, 18]
    assert latency.wait(running=3, waiting=12) == 14 + 2 * 18 + 12
    assert latency.usual_bound == 0.85 * (18 + 3 * 10)


@pytest.mark.parametrize(("one", "full", "batch_of_two"), [(10, 5, 10), (10, 400, 20)])
def test_a_first_measurement_that_cannot_be(one, full, batch_of_two):
    """A batch takes no less than one image and, as images could run alone, no more than all of them."""
    latency = LatencyModel(4)
    latency.start(one, full)
    assert latency.batch(2) == batch_of_two


@given(one=seconds, full=seconds, factor=st.floats(0.1, 10), sizes=st.lists(st.integers(1, 8), min_size=60))
def test_follows_a_machine_that_gets_slower_or_faster(one, full, factor, sizes):
    latency, truth = LatencyModel(8), LatencyModel(8)
    latency.start(one, full)
    truth.start(one * factor, full * factor)
    for size in sizes:
        latency.measure(size, truth.batch(size))
    for size in range(1, 9):
        assert latency.batch(size) == pytest.approx(truth.batch(size), rel=1e-3)


def test_without_a_start_it_learns_from_the_first_batch():
    latency = LatencyModel(4)
    assert latency.wait(3, 9) == 0
    latency.measure(2, 6)
    assert latency.batch(3) == 9


@given(one=seconds, full=seconds, max_batch=st.integers(1, 32))
def test_the_usual_bound_always_leaves_room_for_one_more_beside_a_full_batch(one, full, max_batch):
    latency = LatencyModel(max_batch)
    latency.start(one, full)
    assert latency.wait(running=max_batch, waiting=1) <= latency.usual_bound
    assert latency.usual_bound <= latency.batch(max_batch) + 3 * latency.batch(1)
