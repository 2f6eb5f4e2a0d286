# Each target makes what it needs: from Python 3.11+, make and a reachable package registry to the result.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out
WORKERS ?= 2
# `make study`: virtual patients to train on, those of its learning curve, and what the hierarchy is compared with beside
# its own variants (empty for none). `make study-lumbar` is the same on lumbar radiographs of the same patients.
PATIENTS ?= 100
SIZES ?= 25,50
BASELINES ?= deep_radiomics
LUMBAR_BASELINES ?= lumbar_femur
STUDY = $(BIN)/hierbmd study --workers $(WORKERS) --patients $(PATIENTS) --sizes $(SIZES)
# One BLAS thread a test process: the tests run side by side.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 MPLBACKEND=Agg

.PHONY: install demo study study-lumbar study-full test test-slow test-elastix test-radiomics coverage lint format wheel-check bench bench-registration bench-training clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("hierbmd needs Python 3.11 or later: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: install
	$(BIN)/hierbmd demo --out $(OUT)/demo

study: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-radiomics.txt
	$(STUDY) --out $(OUT)/study --baselines="$(BASELINES)"

study-lumbar: install
	$(STUDY) --out $(OUT)/study-lumbar --region lumbar_l1_l4 --baselines="$(LUMBAR_BASELINES)"

study-full: install
	$(BIN)/hierbmd study --config configs/study-full.yaml --out $(OUT)/study-full

test: install
	$(TEST_ENV) $(BIN)/python -m pytest -m "not slow" --numprocesses $(WORKERS) --dist worksteal

test-slow: install
	$(TEST_ENV) $(BIN)/python -m pytest -m slow --numprocesses $(WORKERS) --dist worksteal

test-elastix: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-elastix.txt
	$(TEST_ENV) $(BIN)/python -m pytest tests/anatomy/test_atlas.py

test-radiomics: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-radiomics.txt
	$(TEST_ENV) $(BIN)/python -m pytest tests/baselines

coverage: install
	$(TEST_ENV) $(BIN)/python -m pytest -m "not slow" --numprocesses $(WORKERS) --dist worksteal --cov --cov-report=term:skip-covered

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel-check: install
	$(BIN)/python tools/check_wheel.py

bench: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-bench.txt || \
		echo "bench: no peers from the registry; the tables say what is not compared"
	$(BIN)/python benchmarks/projector.py --out $(OUT)/bench
	$(BIN)/python benchmarks/registration.py --out $(OUT)/bench/registration --resume

bench-registration: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-bench.txt
	$(BIN)/python benchmarks/registration.py --out $(OUT)/bench/registration --resume

bench-training: install
	$(BIN)/python benchmarks/training.py --out $(OUT)/bench

clean:
	rm -rf $(OUT) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
