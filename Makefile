# Two commands do all the set-up: `make demo` and `make test`. Each creates .venv and installs what it needs.
# PYTHON: the interpreter .venv is made from. PIP_FLAGS: more options for pip, for example an index of CPU-only wheels.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_FLAGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt

.PHONY: help demo test test-slow bench lint types docs wheel bundle format clean

help:
	@echo 'make demo       out/demo.mp4: the built-in presenter speaks (installs no torch)'
	@echo 'make test       all tests but the slow ones (installs torch)'
	@echo 'make test-slow  the slow ones'
	@echo 'make bench      speed and memory of every runtime here, beside the usual pipeline: out/bench/'
	@echo 'make lint       ruff: rules and format'
	@echo 'make types      mypy --strict on src and tests'
	@echo 'make docs       build/site: the documents as pages, strict, without network'
	@echo 'make wheel      wheel and sdist, and every extra, installed into clean environments and used from there'
	@echo 'make bundle     build/bundle: lipwright for machines without Python, a folder and one file; used on a bare machine'
	@echo 'make format     let ruff format and mend'
	@echo 'make clean      remove .venv, out and caches'

.venv/created:
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or later is needed: install it or pass PYTHON=/path/to/python3.11' >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; v = "%d.%d" % sys.version_info[:2]; sys.exit(0 if sys.version_info >= (3, 11) else f"{sys.executable} is Python {v}; 3.11 or later is needed: pass PYTHON=/path/to/python3.11")'
	"$(PYTHON)" -m venv .venv
	@touch $@

.venv/runs: .venv/created pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

.venv/tests: .venv/runs
	$(PIP) -e '.[dev]'
	@touch $@

.venv/docs: .venv/runs
	$(PIP) -e '.[docs]'
	@touch $@

demo: .venv/runs
	@mkdir -p out
	$(BIN)/lipwright demo -o out/demo.mp4 --force

# Side by side first, a file to a process with cores of its own; then those that want the machine for themselves.
test: .venv/tests
	@failed=0; \
	$(BIN)/pytest -n auto --maxprocesses 8 --dist loadfile -m 'not slow and not alone' || failed=1; \
	$(BIN)/pytest -m 'not slow and alone' || failed=1; \
	exit $$failed

test-slow: .venv/tests
	$(BIN)/pytest -m slow

bench: .venv/tests
	@mkdir -p out
	$(BIN)/lipwright bench -o out/bench

lint: .venv/tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/tests
	$(BIN)/mypy

docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: .venv/tests
	$(BIN)/python -m tools.try_wheel --constraints constraints.txt --pip="$(PIP_FLAGS)"

bundle: .venv/tests
	$(BIN)/python -m tools.bundle
	$(BIN)/python -m tools.bundle --try

format: .venv/tests
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv out build .mypy_cache .pytest_cache .ruff_cache
