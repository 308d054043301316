"""The rules of the house: who may import whom, what starts without what, how long a file may be."""

import ast
import graphlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROCESSES = ("channel_emulator", "device", "server")
PACKAGES = ("semlink", *PROCESSES)
ABOVE = ("benchmarks", "cli", "experiments", "studio")
"""What stands above the processes and may import all of them."""
GENERATED = ROOT / "semlink" / "v1"
MATHEMATICS = ("access", "channel", "checks", "decision", "frame", "parameters", "registry", "source")
IN_FUNCTIONS = {
    "semlink/access/learned/engine.py": {"openvino"},
    "semlink/source/codec/rate_control.py": {"PIL"},
    "semlink/source/codec/stills.py": {"PIL"},
    "semlink/source/transformer_aided/coder.py": {"semlink.vision"},
}
"""What a file of mathematics imports where it is used, beside NumPy and SciPy."""
NETWORKS = ("export", "importance_aware_net", "mapper", "networks", "transformer")
"""Modules in folders `learned` that are PyTorch's, and that the others import where they are used."""
LOOKS_AT_PICTURES = {"PIL", "openvino", "safetensors", "skimage", "tenacity", "timm", "torch", "torchvision"}
"""What the extra `vision` installs, and the channel emulator does without."""


def sources(*names: str) -> list[Path]:
    """Written (not generated) files of packages, or of modules, given as paths without their suffix."""
    files = [ROOT / f"{name}.py" for name in names] + [
        file for name in names for file in (ROOT / name).rglob("*.py") if GENERATED not in file.parents
    ]
    return sorted(file for file in files if file.exists())


def imports(file: Path) -> Iterator[str]:
    """Full names of what a file imports, at its top or within a function."""
    package = file.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            source = [*above, *([node.module] if node.module else [])]
            yield from (".".join([*source, alias.name]) for alias in node.names)


def families(file: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(file)}


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


def module(file: Path) -> str:
    """Its name, as `import` wants it."""
    return relative(file).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def python(code: str) -> str:
    """Runs code in a fresh interpreter, as a check of what an import brings along."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def mathematics() -> list[str]:
    """Names of the modules of mathematics that exist, as `import` wants them."""
    return [module(file) for file in mathematics_files()]


def mathematics_files() -> list[Path]:
    """Files of mathematics, but those of networks."""
    files = sources(*(f"semlink/{name}" for name in MATHEMATICS))
    return [file for file in files if not (file.parent.name == "learned" and file.stem in NETWORKS)]


@pytest.mark.parametrize("file", sources(*PROCESSES), ids=relative)
def test_processes_never_import_each_other(file):
    own = file.relative_to(ROOT).parts[0]
    assert not families(file) & ({*PROCESSES, *ABOVE} - {own})


@pytest.mark.parametrize("file", sources("semlink"), ids=relative)
def test_the_library_imports_no_process(file):
    assert not families(file) & {*PROCESSES, *ABOVE}


@pytest.mark.parametrize("file", mathematics_files(), ids=relative)
def test_mathematics_imports_numpy_scipy_and_declarations_only(file):
    in_functions = IN_FUNCTIONS.get(relative(file), set())
    assert (
        families(file) <= sys.stdlib_module_names | {"annotated_types", "numpy", "scipy", "semlink"} | in_functions
    )
    assert not [name for name in imports_at_the_top(file) if name.startswith(tuple(in_functions))]
    allowed = (*(f"semlink.{name}" for name in MATHEMATICS), *in_functions)
    assert all(name.startswith(allowed) for name in imports(file) if name.startswith("semlink"))


def imports_at_the_top(file: Path) -> Iterator[str]:
    """Full names of what a file imports when it is imported itself; not within functions, nor for types alone."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_module_imports_itself_by_way_of_others():
    files = {module(file): file for file in sources("semlink", *PROCESSES, *ABOVE)}
    graph = {
        name: {other for other in imports_at_the_top(file) if other in files and other != name}
        for name, file in files.items()
    }
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("file", sources("semlink", *PROCESSES, *ABOVE), ids=relative)
def test_a_docstring_opens_with_a_term(file):
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert docstring, "a module says what it is"
    assert not re.match(r"(What|Who|How|Which|Where|Whose|Things?)\b", docstring)


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_bytes()) <= 6_000


def test_no_two_files_of_tests_share_a_name():
    """pytest imports them by it, and would take one for the other."""
    folders = {}
    for file in (ROOT / "tests").rglob("*.py"):
        folders.setdefault(file.name, []).append(file.parent.name)
    assert not {name: found for name, found in folders.items() if len(found) > 1 and name != "conftest.py"}


def test_no_test_asks_for_the_last_digits_of_float64():
    """CONTRIBUTING.md: another processor rounds otherwise."""
    tight = re.compile(r"\b(rtol|atol|rel|abs)=\d[\d.]*e-1\d\b")
    assert not [relative(file) for file in (ROOT / "tests").rglob("*.py") if tight.search(file.read_text())]


def test_importing_the_library_and_its_mathematics_loads_neither_torch_nor_grpc():
    assert len(mathematics()) >= 8
    loaded = python(f"import sys, semlink, {', '.join(mathematics())}; print(*sys.modules)").split()
    assert not {"torch", "grpc", "timm"} & set(loaded)


def test_the_channel_emulator_starts_without_what_looks_at_pictures():
    absent = f"import sys; sys.modules.update(dict.fromkeys({sorted(LOOKS_AT_PICTURES)}))"
    files = sources("channel_emulator")
    assert files
    modules = [relative(file).removesuffix(".py").replace("/", ".") for file in files if file.stem != "__main__"]
    python(f"{absent}; import {', '.join(modules)}")
    start = "import runpy; sys.argv[1:] = ['--help']; runpy.run_module('channel_emulator', run_name='__main__')"
    assert "--upstream" in python(f"{absent}; {start}")


@pytest.mark.parametrize("file", sources(*PACKAGES), ids=relative)
def test_a_file_is_one_idea(file):
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= 400, f"{lines} lines: past 400 it is two ideas"


def test_generated_stubs_are_fresh(tmp_path):
    """Runs the Makefile's own command, into another directory."""
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    command = re.search(r"-m grpc_tools\.protoc (.*)", makefile)
    assert command, "the Makefile has no target that calls grpc_tools.protoc"
    arguments = [re.sub(r"(?<=_out=)\.$", str(tmp_path), word) for word in shlex.split(command[1])]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], cwd=ROOT, check=True, timeout=120)
    fresh = {file.name: file.read_text() for file in (tmp_path / "semlink" / "v1").iterdir()}
    assert len(fresh) == 3
    for name, text in fresh.items():
        assert (GENERATED / name).read_text() == text, f"semlink/v1/{name} is stale: run `make proto`"


def test_no_file_knows_the_machine_it_was_written_on():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    home = re.compile(rb"(?<![\w.~-])/(?:work|home|root|farm|Users)/\w|\.\./shared")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert not [relative(file) for file in files if file.is_file() and home.search(file.read_bytes())]
