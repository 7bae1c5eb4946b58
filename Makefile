# The commands of development. Each works on a fresh machine that has python3 (3.11 or newer) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.isotach-setup

.PHONY: setup demo test lint format bench soak constraints clean

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

soak: setup
	$(BIN)/python scripts/soak.py $(SOAK_ARGS)

constraints: setup
	$(BIN)/python scripts/setup_dev.py --venv $(VENV) --renew-constraints

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache benchmarks/results
	rm -f $(STAMP)
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
