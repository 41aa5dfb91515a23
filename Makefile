# Every target does its own set-up in .venv.

PYTHON ?= python3
BIN := .venv/bin

# Python compiles what it imports, once: pip would compile every module, most of which nobody imports.
unexport PYTHONDONTWRITEBYTECODE

# Sources and environments of the implementations that `make scoreboard` judges.
FOLDER ?=

.PHONY: test bench report docs mutants fuzz attacks stress verify scoreboard clean

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Longer checks, with recorded results in docs/results.
verify: mutants fuzz attacks
	$(BIN)/pytest -n 2 --dist loadfile -m long
	$(BIN)/pytest -n 2 --dist loadfile --hypothesis-profile thorough tests/properties \
	  tests/certificate/test_right.py tests/methods/test_against_reference.py
	$(BIN)/thanos verify reference
	$(BIN)/thanos verify torch
	$(BIN)/python -m verification.tolerances
	$(BIN)/python -m tests.judge.named
	$(BIN)/python -m tests.stress.busy
	$(BIN)/python -m tests.models.sweep --out docs/results/model-sweep.json
	$(BIN)/python -m tests.runtimes.llama_cpp --out docs/results/llama-cpp.json
	$(if $(FOLDER),$(MAKE) scoreboard)

# Public implementations, judged by their own code. It says what it does not find in FOLDER.
scoreboard: .venv/installed
	@test -n "$(FOLDER)" || { echo "make scoreboard needs FOLDER=...: docs/scoreboard.md" >&2; exit 2; }
	$(BIN)/python -m verification.scoreboard "$(FOLDER)"
	$(BIN)/python -m verification.scoreboard.layers "$(FOLDER)"

mutants: .venv/installed
	$(BIN)/python -m verification.mutants

fuzz: .venv/installed
	$(BIN)/python -m verification.fuzz --out docs/results/fuzz.json
	$(BIN)/python -m verification.fuzz --values --count 100000 --out docs/results/fuzz-semantic.json

# Right layers that must pass, and an hour's search for wrong ones that do.
attacks: .venv/installed
	$(BIN)/python -m tests.certificate.random_layers
	$(BIN)/python -m tests.certificate.attacks --minutes 30 --jobs 2 --out docs/results/soundness.json

# Kills, full disks, and a checkpoint larger than the memory: about an hour, 30 GB of disk, root.
stress: .venv/installed
	$(BIN)/python -m tests.stress.kills
	$(BIN)/python -m tests.stress.full_disk
	$(BIN)/python -m tests.stress.lost_rank
	$(BIN)/python -m tests.stress.big_checkpoint

bench: .venv/installed
	$(BIN)/thanos bench --quick

# The pages and plots of docs/study, from the results in docs/results alone; docs/coverage.md.
report: .venv/installed
	$(BIN)/python -m verification.benchmarks.pages.build
	$(BIN)/python -m tests.judge.coverage

# The documentation site, in site/index.html. A warning fails the build.
docs: export NO_MKDOCS_2_WARNING = 1
docs: .venv/docs
	$(BIN)/mkdocs build --strict --quiet

.venv/docs: .venv/installed
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[docs]'
	touch $@

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv results site
