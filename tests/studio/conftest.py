"""The studio, a browser and its page: one of each for the tests of a file."""

import pytest
from browser import all_vote, answered, browsing, chromium, running_studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory, offline):
    chromium()
    with running_studio(tmp_path_factory.mktemp("studio")) as (address, process):
        yield f"http://{address}/", process


@pytest.fixture(scope="module")
def browser(studio):
    with browsing() as watched:
        yield watched


@pytest.fixture(scope="module")
def begun(browser, studio):
    """The page, and the number of the first round on which all cameras have voted."""
    browser.expected = ("Failed to load resource: the server responded with a status of 503",)  # it starts
    with browser.page(studio[0]) as page:
        answered(page, 0)
        number = all_vote(page, studio[0])
        browser.expected = ()
        yield page, number
    assert not browser.foreign
    assert not browser.problems


@pytest.fixture(scope="module")
def page(begun):
    return begun[0]


@pytest.fixture(scope="module")
def first(begun):
    return begun[1]
