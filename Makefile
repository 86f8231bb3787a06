# Everything installs what it needs: `make demo` and `make test` are enough on a machine with Python and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test check lint bench peers clean

help:
	@echo "make demo   200 simulated phones and a real rollout against them"
	@echo "make test   set up and run the whole test suite"
	@echo "make check  ruff, mypy, import-linter, and the tests"
	@echo "make bench  measure, each figure beside its floor"

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	@BIN=$(BIN) sh deploy/demo.sh

test: $(STAMP) peers
	$(BIN)/python -m pytest

# The SIP peers that nobody here wrote; without them their tests are skipped by name (and fail under CI=true).
peers:
	@sh deploy/peers.sh

check: lint test

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) peers
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
