# `make demo` and `make test` work on a fresh clone with nothing but python3 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out

.PHONY: help setup demo test test-slow lint format bench clean

help:
	@echo "make setup      what all else needs, into $(VENV)"
	@echo "make demo       set up, then reproduce the paper at demo scale into $(OUT)/report.html"
	@echo "make test       set up, then run the tests"
	@echo "make test-slow  the slow tests alone"
	@echo "make lint       ruff, pyright, import-linter"
	@echo "make bench      the benchmarks, into benchmarks/results"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: setup
	$(BIN)/corridor reproduce --scale demo --out $(OUT)

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile -m "not slow"

test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile -m slow -rs

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python benchmarks/step_cost.py
	$(BIN)/python benchmarks/loop_throughput.py
	$(BIN)/python benchmarks/processes.py
	$(BIN)/python benchmarks/sweep_speed.py
	$(BIN)/python benchmarks/image_loading.py
	$(BIN)/python benchmarks/free_estimates.py
	$(BIN)/python benchmarks/rank_correlations.py
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/rivals -r benchmarks/rivals.txt
	PYTHONPATH=$(VENV)/rivals $(BIN)/python benchmarks/hg_cost.py

clean:
	rm -rf $(VENV) $(OUT) runs build dist .pytest_cache .ruff_cache .hypothesis
