import pytest
from hypothesis import settings

# How long one example takes says more about the machine than about the code.
settings.register_profile("semlink", deadline=None)
settings.load_profile("semlink")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-golden",
        action="store_true",
        help="write tests/golden anew instead of testing against it; see tests/unit/test_golden.py",
    )
