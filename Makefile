# One command per task. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup kernel fix check test test-all demo bench docs

help:  ## list the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## make .venv with all that development needs

# torch comes first and pinned, so that no other package pulls a larger build of it.
$(STAMP): pyproject.toml hatch_build.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --group dev --editable ".[all]"
	@touch $@

kernel: $(STAMP)  ## compile the optional kernel again, after a change of its C sources
	$(BIN)/python hatch_build.py

fix: $(STAMP)  ## format and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: $(STAMP)  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP)  ## the fast tests
	$(BIN)/python -m pytest -m "not slow"

test-all: $(STAMP)  ## every test
	$(BIN)/python -m pytest

demo: $(STAMP)  ## teach a memory real images, ask it, correct it, make it forget
	$(BIN)/recollect demo

bench: $(STAMP)  ## the benchmarks of the memory, written to benchmarks/results
	$(BIN)/python benchmarks/memory.py --rounds 9 --json benchmarks/results/memory.json

docs: $(STAMP)  ## regenerate the generated pages and check that every example runs
	$(BIN)/python docs/generate.py
	$(BIN)/python -m pytest tests/docs
