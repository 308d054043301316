# make demo    set up .venv and send four views of one object through the link
# make studio  set up .venv and open a page where one sees the link think: four cameras, channel, server; ARGS=--help
# make check   set up .venv, lint, type-check and run the unit tests that take no long
# make test    the same and every other test; JOBS=4 on four cores
# make hostile 100,000 hostile inputs to the processes
# make numeric the tests that compare numbers, as if on two older processors
# make setup   set up .venv only; TORCH_INDEX_URL=... takes torch from another package index (a CPU build)
# make load    put load on a server and a channel emulator, check every answer; ARGS=--help explains
# make bench   how fast, beside what one would use instead; ARGS="NAME ..." takes some of benchmarks/ only
# make docs    build the documentation site into runs/site; ARGS=serve serves it instead
# make proto   regenerate the gRPC stubs from proto/
PYTHON ?= python3
TORCH_INDEX_URL ?=
ARGS ?=
JOBS ?= 2
BIN := .venv/bin
# One file of tests runs in one process, which shares what it started among them; see also tests/conftest.py.
PYTEST = $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

.PHONY: setup demo studio check test hostile numeric lint load bench docs proto clean

setup: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Semlink needs Python 3.11 or newer; try make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX_URL),$(BIN)/pip install --quiet --index-url $(TORCH_INDEX_URL) torch torchvision)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/semlink demo $(ARGS)

studio: setup
	$(BIN)/python -m studio $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint
	OMP_NUM_THREADS=1 $(PYTEST) tests/unit -m 'not slow' $(ARGS)

test: lint
	OMP_NUM_THREADS=1 $(PYTEST) $(ARGS)

hostile: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults/test_hostile.py --hostile-inputs 100000 --timeout 0 $(ARGS)

numeric: setup
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 OPENBLAS_CORETYPE=Haswell NPY_DISABLE_CPU_FEATURES=X86_V4 \
		OMP_NUM_THREADS=1 $(PYTEST) -m numeric $(ARGS)
	ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default OPENBLAS_CORETYPE=Nehalem \
		NPY_DISABLE_CPU_FEATURES='X86_V3 X86_V4' OMP_NUM_THREADS=2 $(PYTEST) -m numeric $(ARGS)

load: setup
	$(BIN)/python tests/load $(ARGS)

bench: setup
	$(BIN)/python -m benchmarks $(ARGS)

docs: setup
	$(BIN)/mkdocs $(if $(ARGS),$(ARGS),build --strict --quiet)

proto: setup
	$(BIN)/python -m grpc_tools.protoc --proto_path=proto --python_out=. --pyi_out=. --grpc_python_out=. \
		proto/semlink/v1/link.proto

clean:
	rm -rf .venv runs build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
