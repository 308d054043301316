"""The studio, a browser and its page: one of each for the tests of a file."""

import pytest
from browser import answered, browsing, chromium, running_studio


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
def page(browser, studio):
    with browser.page(studio[0]) as page:
        answered(page, 0)
        yield page
    assert not browser.foreign
    assert not browser.problems
