# Every target does its own set-up in .venv.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: test bench mutants fuzz verify clean

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

# Longer checks, with recorded results in docs/results.
verify: mutants fuzz
	$(BIN)/thanos verify reference
	$(BIN)/thanos verify torch
	$(BIN)/python -m verification.tolerances

mutants: .venv/installed
	$(BIN)/python -m verification.mutants

fuzz: .venv/installed
	$(BIN)/python -m verification.fuzz --out docs/results/fuzz.json

bench: .venv/installed
	$(BIN)/thanos bench --quick

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv results
