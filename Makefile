# make demo    set up .venv and send four views of one object through the link
# make test    set up .venv, lint, type-check and run every test
# make setup   set up .venv only; TORCH_INDEX_URL=... takes torch from another package index (a CPU build)
# make load    put load on a server and a channel emulator, check every answer; ARGS=--help explains
# make bench   how fast, beside what one would use instead; ARGS="NAME ..." takes some of benchmarks/ only
# make docs    build the documentation site into runs/site; ARGS=serve serves it instead
# make proto   regenerate the gRPC stubs from proto/
PYTHON ?= python3
TORCH_INDEX_URL ?=
ARGS ?=
BIN := .venv/bin

.PHONY: setup demo test lint load bench docs proto clean

setup: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Semlink needs Python 3.11 or newer; try make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX_URL),$(BIN)/pip install --quiet --index-url $(TORCH_INDEX_URL) torch torchvision)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/semlink demo $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest $(ARGS)

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
