"""What the OpenAPI documents promise, by Schemathesis against the processes themselves."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    checks.not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
EXAMPLES = 20
"""Requests of each operation as the document wants them, and as many as it does not."""


def asked_as_promised(document, **how) -> set[str]:
    """Asks for every operation; returns their labels."""
    operations = [found.ok() for found in document.get_all_operations()]
    asked = set()
    for operation in operations:
        takes_something = operation.body or any(True for _ in operation.iter_parameters())
        for mode in GenerationMode if takes_something else [GenerationMode.POSITIVE]:

            @settings(
                max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
            )
            @given(case=operation.as_strategy(mode))
            def ask(case):
                case.call_and_validate(checks=CHECKS, **how)
                asked.add(case.operation.label)

            ask()
    assert asked == {operation.label for operation in operations}
    return asked


@pytest.mark.parametrize("process", ["server", "emulator"])
def test_answers_are_as_the_document_says(process, request):
    address = request.getfixturevalue(process).http_address
    document = schemathesis.openapi.from_url(f"http://{address}/openapi.json")
    assert "GET /metrics" in asked_as_promised(document, timeout=60)
