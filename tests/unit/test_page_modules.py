"""Unit tests of the page's modules: what one takes from another is there."""

import re

import pytest

from studio.page_files import FOLDER as PAGE

MODULES = sorted(PAGE.glob("*.js"))
TAKEN = re.compile(r'import \{([^}]*)\} from "\./([^"]+)"')


def given(path):
    text = path.read_text()
    lists = [each.split(",") for each in re.findall(r"export *\{([^}]*)\}", text)]
    names = re.findall(r"export (?:async )?(?:function|const|class|let) (\w+)", text)
    return {name.split(" as ")[-1].strip() for each in lists for name in each} | set(names)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_what_a_module_takes_from_another_is_there(module):
    for names, other in TAKEN.findall(module.read_text()):
        wanted = {name.split(" as ")[0].strip() for name in names.split(",") if name.strip()}
        assert wanted <= given(PAGE / other), other
