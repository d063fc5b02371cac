# Two commands: `make demo` and `make test`. Each sets everything up in .venv first, once.
.DEFAULT_GOAL := help

export VENV ?= .venv
export PYTHON ?=
OUTPUT ?= demo
PYTEST_ARGS ?=
# One process per core, four at most; PYTEST_ARGS="-n 0" for one process and a readable traceback.
PYTEST := -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
BIN := $(VENV)/bin
READY := $(VENV)/.ifmdm-ready

.PHONY: help setup demo test lint format clean

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /:/' | awk -F: '{printf "make %-8s %s\n", $$1, $$2}'

demo: setup ## set up, then the whole experiment in miniature, into the folder demo/ (OUTPUT=DIR for another)
	$(BIN)/ifmdm demo --output $(OUTPUT)

test: setup ## set up, then all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) $(PYTEST_ARGS)

lint: setup ## set up, then ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(READY) ## virtual environment with everything in it (PYTHON=NAME for a certain Python)

$(READY): setup.cfg pyproject.toml constraints.txt .ci/setup .ci/system_libraries.py
	@.ci/setup
	@touch $@

clean: ## remove the virtual environment and caches; data, runs and demo stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache *.egg-info build dist
