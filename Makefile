# Works with GNU make 3.81 (macOS) and newer. `make` alone lists the targets.

# Empty: tools/setup_env.sh looks for a fitting Python. Or: make setup PYTHON=/path/to/python3.11
PYTHON ?=
PYTEST_ARGS ?=
SOAK_ARGS ?= --stock
# Test files side by side.
TEST_JOBS ?= 2

VENV := .venv
CODE := $(wildcard mmgradaug mmcv_ext_fallback configs tools tests benchmarks examples docs)

.DEFAULT_GOAL := help
.PHONY: help setup quickstart quickstart-detection test test-onedl test-soak lint format docs docs-links doctor clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-20s %s\n", $$1, $$2}' Makefile

setup:  ## make .venv with the versions of requirements.txt (once)
	@PYTHON='$(PYTHON)' tools/setup_env.sh $(VENV)

quickstart: setup  ## train with and without GradAug on bundled data, on the CPU
	$(VENV)/bin/python -m mmgradaug.cli quickstart digits

quickstart-detection: setup  ## train Mask R-CNN with and without GradAug on drawn shapes, on the CPU
	$(VENV)/bin/python -m mmgradaug.cli quickstart shapes

test: setup  ## run the tests; PYTEST_ARGS='-k doctor' runs some
	$(VENV)/bin/python -m pytest -n $(TEST_JOBS) --dist loadfile $(PYTEST_ARGS)

test-onedl:  ## run the tests on OneDL's fork of OpenMMLab, in an environment of its own (.venv-onedl)
	@PYTHON='$(PYTHON)' tools/setup_env.sh --onedl $(VENV)-onedl
	$(VENV)-onedl/bin/python -m pytest -n $(TEST_JOBS) --dist loadfile $(PYTEST_ARGS)

test-soak: setup  ## kill trainings again and again; SOAK_ARGS='--kills 5' for less
	$(VENV)/bin/python -W ignore tests/soak.py $(SOAK_ARGS)

lint: setup  ## check style, formatting and types
	$(VENV)/bin/ruff check $(CODE)
	$(VENV)/bin/ruff format --check $(CODE)
	$(VENV)/bin/python -m mypy

format: setup  ## mend style and formatting
	$(VENV)/bin/ruff check --fix $(CODE)
	$(VENV)/bin/ruff format $(CODE)

docs: setup  ## make the tables of docs/results and build the site, build/docs/index.html
	$(VENV)/bin/python -W ignore docs/tables.py
	$(VENV)/bin/python -m sphinx -W --keep-going -q -b html docs build/docs

docs-links: setup  ## see that the site's links to other sites work
	$(VENV)/bin/python -m sphinx -q -b linkcheck docs build/docs-links

# By path: `-m mmgradaug.doctor` would import the package, which a broken environment cannot.
doctor:  ## say what is wrong with the environment, and what to type
	@if [ -x $(VENV)/bin/python ]; then $(VENV)/bin/python mmgradaug/doctor.py; \
	else $(or $(PYTHON),python3) mmgradaug/doctor.py; fi

clean:  ## remove caches and build output (keeps .venv, data and work_dirs)
	rm -rf build dist *.egg-info mmcv_ext_fallback/build mmcv_ext_fallback/*.egg-info .pytest_cache .ruff_cache .mypy_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
