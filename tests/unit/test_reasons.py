"""Reasons of errors: docs/rest-and-grpc.md lists each that a program may get, and no other."""

import ast
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import server.refusals  # noqa: F401  # defines refusals
from channel_emulator.plan_messages import REASONS as PLAN_REASONS
from semlink.access.symbol_link import ACCESS_REASONS
from semlink.service.admission import Refusal
from semlink.source.registry import frame_rules

ROOT = Path(__file__).parents[2]
OF_STATUS = {
    status.name.lower() for status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.CONFLICT)
}
ARGUMENT = {"ProblemError": 1, "BadFrame": 1, "abort": 3, "ContainerError": 1, "ImageError": 1}
"""Which argument of a call is the reason."""


def refusals(kind: type[Refusal] = Refusal) -> Iterator[str]:
    yield kind.reason
    for derived in kind.__subclasses__():
        yield from refusals(derived)


def in_sources() -> set[str]:
    """Reasons that stand where the error is raised."""
    found = set()
    for room in ("semlink", "server", "channel_emulator"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    reason = node.args[ARGUMENT[node.func.id] :][:1] if node.func.id in ARGUMENT else []
                    found |= {each.value for each in reason if isinstance(each, ast.Constant)}
    return found


def listed() -> set[str]:
    page = (ROOT / "docs" / "rest-and-grpc.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    return {reason for row in rows for reason in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_the_page_lists_every_reason_and_no_other():
    known = {*refusals(), *frame_rules(), *(f"plan_{rule}" for rule in PLAN_REASONS)}
    known |= {f"access_{reason}" for reason in ACCESS_REASONS}
    known |= {"internal", "picture_malformed", "picture_memory"} | in_sources() | OF_STATUS
    assert {"media_type", "content_encoding", "body_broken", "picture_segments", "on_air_too_long"} <= in_sources()
    assert listed() == known
