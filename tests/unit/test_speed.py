import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.speed import Speed

seconds = st.floats(1e-4, 100)


def test_a_batch_takes_one_image_and_so_many_more():
    speed = Speed(5)
    speed.start(one=10, full=18)
    assert [speed.batch(images) for images in range(6)] == [0, 10, 12, 14, 16, 18]
    assert speed.wait(looked_at=3, waiting=12) == 14 + 2 * 18 + 12
    assert speed.usual_bound == 0.85 * (18 + 3 * 10)


@pytest.mark.parametrize(("one", "full", "batch_of_two"), [(10, 5, 10), (10, 400, 20)])
def test_a_first_measurement_that_cannot_be(one, full, batch_of_two):
    """A batch takes no less than one image and, as images could be looked at alone, no more than all of them."""
    speed = Speed(4)
    speed.start(one, full)
    assert speed.batch(2) == batch_of_two


@given(one=seconds, full=seconds, factor=st.floats(0.1, 10), sizes=st.lists(st.integers(1, 8), min_size=60))
def test_follows_a_machine_that_gets_slower_or_faster(one, full, factor, sizes):
    speed, truth = Speed(8), Speed(8)
    speed.start(one, full)
    truth.start(one * factor, full * factor)
    for size in sizes:
        speed.measure(size, truth.batch(size))
    for size in range(1, 9):
        assert speed.batch(size) == pytest.approx(truth.batch(size), rel=1e-3)


def test_without_a_start_it_learns_from_the_first_batch():
    speed = Speed(4)
    assert speed.wait(3, 9) == 0
    speed.measure(2, 6)
    assert speed.batch(3) == 9


@given(one=seconds, full=seconds, max_batch=st.integers(1, 32))
def test_the_usual_bound_always_leaves_room_for_a_batch_that_is_looked_at_and_one_that_comes(one, full, max_batch):
    speed = Speed(max_batch)
    speed.start(one, full)
    assert speed.wait(looked_at=max_batch, waiting=1) <= speed.usual_bound
    assert speed.usual_bound <= speed.batch(max_batch) + 3 * speed.batch(1)
