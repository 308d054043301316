"""`import semlink as sl`: flat names, loaded where they are used."""

import ast
from pathlib import Path

import pytest

import semlink as sl


@pytest.mark.parametrize("name", sl.__all__)
def test_every_public_name_is_there(name):
    assert getattr(sl, name) is not None
    assert name in dir(sl)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(sl.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == sl._HOME_OF


def test_others_are_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = sl.nothing
