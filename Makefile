# The commands of development. Each works on a fresh machine that has python3 (3.11 or newer) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.isotach-setup

.PHONY: setup demo test lint format bench soak faults constraints clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt scripts/setup_dev.py
	$(PYTHON) scripts/setup_dev.py --venv $(VENV) --stamp $(STAMP)

demo: setup
	$(BIN)/python scripts/demo.py

test: lint
	$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

# SEED replays a run; MINUTES and CLIENTS say how long and how many.
soak: setup
	$(BIN)/python scripts/soak.py $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) \
	  $(if $(CLIENTS),--clients $(CLIENTS)) $(SOAK_ARGS)

faults: setup
	$(BIN)/python scripts/faults.py $(FAULTS_ARGS)

constraints: setup
	$(BIN)/python scripts/setup_dev.py --venv $(VENV) --renew-constraints

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache benchmarks/results
	rm -f $(STAMP)
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
