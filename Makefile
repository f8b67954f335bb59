# Two commands do all the set-up: `make demo` and `make test`. Both need git, Python 3.11 and make, and nothing else.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
# What `make test` leaves out; `make test MARKS=` runs everything, as .ci/run does.
MARKS ?= not slow
# How long `make fuzz` tries.
MINUTES ?= 10
# What is installed for development besides the core; .ci/run adds the other extras.
EXTRAS ?= dev

.PHONY: help demo env test fuzz lint types contract docs check clean

help:
	@echo "make demo    make data, compare two models on it, and print where the report is"
	@echo "make test    make an environment and run the tests"
	@echo "make fuzz    feed broken files to every reader, MINUTES=60 for an hour"
	@echo "make check   lint, types, import contract, docs and tests"
	@echo "make clean   remove everything that these commands made"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV): a minute or more, once"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.$(EXTRAS): pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV): some minutes, once"
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	@touch $(VENV)/.core $@

demo: $(VENV)/.core
	@rm -rf demo
	@$(BIN)/python scripts/demo.py demo

env: $(VENV)/.$(EXTRAS)

test: env
	$(BIN)/pytest --numprocesses 2 --dist worksteal -m "$(MARKS)"

fuzz: env
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: env
	$(BIN)/mypy

contract: env
	$(BIN)/lint-imports

docs: env
	$(BIN)/mkdocs build --strict --quiet

check: lint types contract docs test

clean:
	rm -rf $(VENV) demo fuzz site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
