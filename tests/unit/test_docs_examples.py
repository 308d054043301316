"""The examples of the documentation run as they stand."""

import pytest
from docs_examples import ROOT, blocks, run_page

PAGES = [page for page in sorted((ROOT / "docs").glob("*.md")) if blocks(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page, tmp_path):
    run_page(page, tmp_path)


def test_pages_with_examples_are_found():
    assert {"add-a-channel", "add-a-coder", "tutorial"} <= {page.stem for page in PAGES}
