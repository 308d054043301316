"""MkDocs hook: pages made from the sources, and the figures and tables of experiments/results.

`equations.md` lists every function whose docstring cites an equation; `reference/ROOM.md` has a room's modules for
mkdocstrings. Both follow from the code, so that no page names what is not there.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("frame", "source", "access", "channel", "vision", "decision")
PAPERS = {
    "IAQ": "IAQ: Park, Oh, Kim, Jeon, arXiv 2412.06038",
    "IA-QSMPA": "IA-QSMPA: Park, Oh, Kim, Jeon, arXiv 2508.07696",
}
CITATION = re.compile(r"(?<![\w-])(IA-QSMPA|IAQ)(?=[,:(]|\s\()((?:[^.;]|\.(?=\S))*)")
_ONE = r"(?:\(\d+[a-z]?\)|\d+[a-z]?)"
_LIST = rf"{_ONE}(?:(?:-| to | and |, ){_ONE})*"
PLACE = re.compile(
    rf"[Pp]roblem P\d|Theorem \d|Section [IVX]+(?:-[A-Z])?|Algorithm \d|Appendix [A-Z]|Table I|equations? {_LIST}|"
    r"\(\d+[a-z]?\)(?:-\(\d+[a-z]?\))?"
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages, and what experiments/results holds as results/."""
    pages = {"equations.md": equations(), **{f"reference/{room}.md": reference(room) for room in ROOMS}}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for path in sorted((ROOT / "experiments" / "results").iterdir()):
        if path.suffix in (".png", ".md", ".jsonl"):
            files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def reference(room: str) -> str:
    """The page of a room: each of its modules, the room itself first."""
    directives = "\n\n".join(f"::: {name}" for name, _ in _modules(room))
    return f"# semlink.{room}\n\n{directives}\n"


def equations() -> str:
    """The page that lists citations of equations: by paper, in the order of the equations."""
    rows: dict[str, list[tuple[int, str]]] = {paper: [] for paper in PAPERS}
    for room in ROOMS:
        for module, tree in _modules(room):
            for name, docstring in _public(tree):
                for paper, where, number in _citations(docstring):
                    room_page = f"reference/{room}.md#{module}.{name}"
                    first = re.sub(r"([|\[\]])", r"\\\1", docstring.splitlines()[0])
                    rows[paper].append(
                        (number, f"| {where} | [`{module.partition('.')[2]}.{name}`]({room_page}) | {first} |")
                    )
    text = "# Equations and functions\n\nMade from the docstrings: which function implements which equation.\n"
    for paper, title in PAPERS.items():
        lines = [line for _, line in sorted(rows[paper])]
        text += (
            f"\n## {title}\n\n| where | function | what it is |\n| --- | --- | --- |\n" + "\n".join(lines) + "\n"
        )
    return text


def _citations(docstring: str) -> Iterator[tuple[str, str, int]]:
    """Paper, places in it, and the number of the first equation among them."""
    places: dict[str, list[str]] = {}
    for paper, clause in CITATION.findall(" ".join(docstring.split())):
        places.setdefault(paper, []).extend(PLACE.findall(clause))
    for paper, found in places.items():
        numbers = [
            int(digits) for place in found if "(" in place or "eq" in place for digits in re.findall(r"\d+", place)
        ]
        if numbers:
            yield paper, ", ".join(dict.fromkeys(found)), min(numbers)


def _public(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Name and docstring of public functions and classes."""
    for node in tree.body:
        is_public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if is_public and (docstring := ast.get_docstring(node)):
            yield node.name, docstring


def _modules(room: str) -> Iterator[tuple[str, ast.Module]]:
    """Dotted names and syntax trees of a room's modules."""
    package = ROOT / "semlink" / room
    files = sorted(package.rglob("*.py")) if package.is_dir() else [package.with_suffix(".py")]
    for file in files:
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, ast.parse(file.read_text(encoding="utf-8"))
