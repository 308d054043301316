"""Code blocks of documentation pages: found by page, and run, all blocks of a page one after the other."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def blocks(page: Path, language: str = "python") -> list[str]:
    """Every block of a language, behind so many empty lines that errors name the lines of the page."""
    text = page.read_text(encoding="utf-8")
    fences = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return ["\n" * text.count("\n", 0, found.start(1)) + found[1] for found in fences]


def run_page(page: Path, folder: Path) -> str:
    """Runs a page in an interpreter of its own, whose working directory is `folder`; returns what it prints."""
    code = f"for block in {blocks(page)!r}: exec(compile(block, {str(page)!r}, 'exec'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
