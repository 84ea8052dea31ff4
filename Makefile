# Set-up is made once and made again when pyproject.toml or the constraints change. PYTHON names the interpreter that .venv is made from.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install gate test test-all test-tensorflow check reference verdict-benchmark bisect-benchmark clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "harness needs Python 3.11 or newer: make install PYTHON=python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

gate: install
	$(BIN)/harness gate scenarios --new-baselines accept

# A test file is run by one of two processes, so that what its tests share is made once.
test: install
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile

test-all: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

# TensorFlow's tests have an environment of their own: 2.5 GB that nothing else needs.
TENSORFLOW := .venv-tensorflow

test-tensorflow: $(TENSORFLOW)/.installed
	$(TENSORFLOW)/bin/python -m pytest tests/integration/test_tensorflow_*.py

$(TENSORFLOW)/.installed: pyproject.toml constraints.txt
	test -x $(TENSORFLOW)/bin/python || $(PYTHON) -m venv $(TENSORFLOW)
	$(TENSORFLOW)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[tensorflow]' hypothesis pytest pytest-benchmark scikit-learn
	touch $@

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# docs/reference/ anew from the code; a test fails while it is behind.
reference: install
	$(BIN)/python -m tests.reference

# How often the verdict is right: about five hours on a machine that does nothing else. Goes on where it was stopped; writes
# docs/measurements/verdict.md.
verdict-benchmark: install
	$(BIN)/python -m tests.benchmarks.verdict

# Whether bisect finds a planted 5 % among 12 commits, five times; writes docs/measurements/bisect.md. Up to an hour.
bisect-benchmark: install
	$(BIN)/python -m tests.benchmarks.bisect

clean:
	rm -rf .venv .venv-tensorflow build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
