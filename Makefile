# Every target makes the virtual environment on first use and installs what it
# needs into it, so a fresh clone needs nothing but Python 3.10+ and make.

PYTHON ?= python3
VENV ?= .venv
VENV_MMCV1 ?= .venv-mmcv1
MMCV1 ?= mmcv==1.7.2
WORK_DIR ?= work_dirs/resnet
PYTEST_ARGS ?= -n 2

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BIN_MMCV1 := $(VENV_MMCV1)/bin
INSTALLED_MMCV1 := $(VENV_MMCV1)/.installed
CONFIG := configs/examples/resnet.py

.PHONY: help install install-mmcv1 run example test test-avx2 test-mmcv1 test-slow lint format \
	docs site clean
.DEFAULT_GOAL := help

help:  ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
		awk -F '|' '{ printf "%-20s %s\n", $$1, $$2 }'
	@echo
	@echo 'Another Python: make PYTHON=python3.11 test. Some tests: make test PYTEST_ARGS="-k gdas".'

install: $(INSTALLED)  ## Make .venv and install the package, editable, with all extras

install-mmcv1: $(INSTALLED_MMCV1)  ## Make .venv-mmcv1, in which the core is tested on mmcv 1.x

run: $(INSTALLED)  ## Search a ResNet under a budget, retrain it beside random ones, export it
	$(BIN)/mmrazor-mutators search $(CONFIG) --work-dir $(WORK_DIR)
	$(BIN)/mmrazor-mutators retrain $(CONFIG) --subnet $(WORK_DIR)/subnet.yaml \
		--work-dir $(WORK_DIR)/retrain --compare-random 5
	$(BIN)/mmrazor-mutators export $(CONFIG) --subnet $(WORK_DIR)/subnet.yaml \
		--checkpoint $(WORK_DIR)/retrain/last.pth --out $(WORK_DIR)/found.pt
	$(BIN)/mmrazor-mutators show $(WORK_DIR)/retrain/results.json

example: $(INSTALLED)  ## Search a ResNet under a budget, and compare it with uniform scaling
	$(BIN)/python -m examples.resnet

test: $(INSTALLED)  ## Run the tests and the examples in the docstrings
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# All that runs convolutions, or kernels of our own; the rest is the same on any processor.
test-avx2: $(INSTALLED)  ## Run the tests of everything that computes, as without AVX-512
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(BIN)/python -m pytest $(PYTEST_ARGS) \
		tests/algorithms tests/architectures tests/kernels tests/ops tests/search

test-mmcv1: $(INSTALLED) $(INSTALLED_MMCV1)  ## Run the tests of the core on mmcv 1.x
	$(BIN)/python -m pytest -m 'slow or not slow' $(PYTEST_ARGS) tests/hosts/test_mmcv1.py

test-slow: $(INSTALLED)  ## Run the tests that take minutes
	$(BIN)/python -m pytest -m slow --timeout 3600 $(PYTEST_ARGS)

lint: $(INSTALLED)  ## Check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED)  ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(INSTALLED)  ## Write what the pages have from docstrings, configs and results
	$(BIN)/python docs/generate.py
	$(BIN)/python -m benchmarks.pages

site: $(INSTALLED)  ## Make a site of the docs, to open at docs/_build/html/index.html
	$(BIN)/python -m sphinx -q -W --keep-going -d docs/_build/doctrees docs docs/_build/html

clean:  ## Remove the virtual environments and every cache; keep work_dirs
	rm -rf $(VENV) $(VENV_MMCV1) build dist docs/_build docs/api ./*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find mmrazor_mutators configs tests -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): setup.py pyproject.toml constraints.txt mmrazor_mutators/version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo 'Expected Python 3.10 or newer, but "$(PYTHON)" is not. Name another one,' >&2; \
		echo 'for example: make PYTHON=python3.11 $(MAKECMDGOALS)' >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo 'Could not make a virtual environment in $(VENV). On Debian and Ubuntu, first:' >&2; \
		echo 'apt install python3-venv' >&2; exit 2; }
	@echo 'Installing into $(VENV), under constraints.txt. This takes a minute or two.'
	@torch=$$(grep '^torch==' constraints.txt); \
		$(BIN)/python -m pip install --quiet -c constraints.txt "$$torch" || { \
		echo "Could not install $$torch, the version tested, for $$($(BIN)/python --version)." >&2; \
		echo 'If there is no wheel of it for this Python, use another one, as in "make clean"' >&2; \
		echo 'and "make PYTHON=python3.11 $(MAKECMDGOALS)", or name a package index that has one' >&2; \
		echo 'with PIP_EXTRA_INDEX_URL in the environment.' >&2; exit 2; }
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

# mmcv 1.x is built here, by an older setuptools than is current: a build of its
# own would bring the newest. The package itself is tested where it lies.
$(INSTALLED_MMCV1): constraints.txt
	@$(PYTHON) -m venv $(VENV_MMCV1)
	@echo 'Installing into $(VENV_MMCV1): $(MMCV1) and what its tests need.'
	@$(BIN_MMCV1)/python -m pip install --quiet -c constraints.txt "$$(grep '^torch==' constraints.txt)" \
		PyYAML entmax hypothesis numpy pytest pytest-timeout rich scikit-learn scipy torch-pruning
	@$(BIN_MMCV1)/python -m pip install --quiet 'setuptools<81' wheel
	MMCV_WITH_OPS=0 $(BIN_MMCV1)/python -m pip install --quiet --no-build-isolation '$(MMCV1)'
	@touch $@
