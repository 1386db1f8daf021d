# make demo, make test: set up everything that is missing, then run. "make help" lists the rest.

VENV ?= .venv
# Interpreter for the virtual environment. Empty: the first of 3.12, 3.11, 3.10 that works and can make one.
PYTHON ?=
# More options for pip, for example the index with PyTorch's smaller CPU wheels.
PIP_ARGS ?=
# Tests that "make test" leaves out, more options for pytest, and its number of processes (empty: by cores).
MARKS ?= not slow
ARGS ?=
WORKERS ?=
# Another transformers for "make test-transformers": by default the oldest that the tests run on, and one that MMDetection's
# own BERT works with, so that ours is compared with it.
TRANSFORMERS ?= 4.46.3

BIN := $(VENV)/bin
STAMP := $(VENV)/.mmsdpt-installed
CONSTRAINTS := requirements/constraints.txt
# pip would compile all 16,000 files to bytecode, one after the other; the set-up ends with an import of those in use.
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile $(PIP_ARGS)

# True for an interpreter in the supported range that can make virtual environments.
IS_USABLE := import sys, ensurepip, venv; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))

# Threads of several PyTorch processes that wait by spinning take each other's cores. So one thread in each of at most
# four processes (each needs about 1.5 GB), and passive waiting.
COUNT_CORES := import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OMP_WAIT_POLICY=passive

# Building MMCV must not see PyTorch, or it would compile for many minutes.
unexport PIP_NO_BUILD_ISOLATION

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-transformers web web-demo test-browser fuzz lint format install doctor clean clean-venv

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## */  make \1	/' | expand -t 20

demo: install  ## SDPT improves a detector, in a few minutes on a CPU: a table and a picture
	@$(ONE_THREAD) $(BIN)/python tools/demo.py

# Runs pytest with the interpreter $(1) on what $(2) says.
RUN_TESTS = cores=$$($(BIN)/python -c '$(COUNT_CORES)'); workers=$(or $(WORKERS),$$((cores < 4 ? cores : 4))); \
	if [ "$$workers" -le 1 ]; then workers=0; fi; \
	$(ONE_THREAD) $(1) -m pytest -n "$$workers" --dist worksteal -m "$(MARKS)" $(2)

test: install  ## all tests but the slow ones (ARGS="-k name" for some)
	@$(call RUN_TESTS,$(BIN)/python,$(ARGS))

test-all: MARKS := slow or not slow
test-all: test  ## the slow tests too

# An environment of its own for transformers, and all else from $(VENV).
PACKAGES := import sysconfig; print(sysconfig.get_path("purelib"))
OTHER := $(VENV)/with-transformers-$(TRANSFORMERS)
test-transformers: install  ## tests of hosts and tokenizers with another transformers (TRANSFORMERS=4.57.6)
	@set -e; if [ ! -e "$(OTHER)/.installed" ]; then \
		$(BIN)/python -m venv --clear "$(OTHER)"; \
		own=$$("$(OTHER)/bin/python" -c '$(PACKAGES)'); shared=$$($(BIN)/python -c '$(PACKAGES)'); \
		echo "import site; site.addsitedir('$$shared')" > "$$own/shared.pth"; \
		"$(OTHER)/bin/python" -m pip install --disable-pip-version-check --no-compile $(PIP_ARGS) --quiet \
			"transformers==$(TRANSFORMERS)"; \
		touch "$(OTHER)/.installed"; \
	fi
	@$(call RUN_TESTS,"$(OTHER)/bin/python",$(or $(ARGS),tests/hosts tests/utils/test_token_ids.py tests/utils/test_clip_convert.py))

web-demo: web  ## the page of projects/web_demo in the browser, on this machine alone
	@$(BIN)/python -m projects.web_demo

test-browser: web  ## the page in a real Chromium (Debian and Ubuntu: apt install chromium-driver)
	@$(ONE_THREAD) $(BIN)/python -m pytest -m browser tests/projects/web_demo $(ARGS)

web: install
	@$(BIN)/python -c "import gradio" 2>/dev/null || $(PIP_INSTALL) --constraint $(CONSTRAINTS) --editable ".[web]"

fuzz: export FUZZ_EXAMPLES ?= 8400
fuzz: export FUZZ_KILLS ?= 1000
fuzz: install  ## 100,000 mutated files through the readers, 1,000 kills during writes (an hour)
	@$(ONE_THREAD) $(BIN)/python -m pytest tests/fuzz -q -s -o faulthandler_timeout=0

lint: install  ## ruff, mypy on the public surface, pre-commit's checks of files
	@status=0; \
	run() { echo "$$*"; PATH="$(abspath $(BIN)):$$PATH" "$$@" || status=1; }; \
	run ruff check .; \
	run ruff format --check .; \
	run mypy; \
	if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then \
		export SKIP=ruff-check,ruff-format,mypy; run pre-commit run --all-files; \
	else \
		echo "not a git checkout: pre-commit's checks of files are left out"; \
	fi; \
	exit $$status

format: install  ## let ruff put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

doctor: install  ## versions, operators in use, where weights are expected
	@$(BIN)/python -m mmsdpt.doctor

install: $(STAMP)  ## virtual environment with mmsdpt and what it needs, if it is not there yet

# The stamp is written last, so an interrupted set-up starts again.
$(STAMP): setup.py $(CONSTRAINTS)
	@set -e; \
	if ! $(BIN)/python -c "$(IS_USABLE)" 2>/dev/null || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		for candidate in $(if $(PYTHON),"$(PYTHON)",python3.12 python3.11 python3.10 python3 python); do \
			if "$$candidate" -c "$(IS_USABLE)" 2>/dev/null; then found="$$candidate"; break; fi; \
		done; \
		if [ -z "$${found:-}" ]; then \
			echo "mmsdpt needs Python 3.10, 3.11 or 3.12 with its venv and ensurepip modules, and found none in" \
				"$(or $(PYTHON),python3.12 python3.11 python3.10 python3 python): install one (Debian and Ubuntu:" \
				"python3 and python3-venv) or name it with make PYTHON=/path/to/python" >&2; \
			exit 1; \
		fi; \
		echo "making $(VENV) with $$("$$found" --version)"; \
		"$$found" -m venv --clear "$(VENV)"; \
	fi
	@echo "installing mmsdpt and what it needs into $(VENV) (about 3 GB to fetch the first time)"
	@$(PIP_INSTALL) --quiet --upgrade pip
	@$(PIP_INSTALL) --constraint $(CONSTRAINTS) --editable ".[experiments,onnx,tests,lint]"
	@$(BIN)/python -c "import cv2" 2>/dev/null || { \
		echo "OpenCV's windows need a system library that is not here: taking its build without windows"; \
		$(PIP_INSTALL) --force-reinstall --no-deps --constraint $(CONSTRAINTS) opencv-python-headless; }
	@echo "importing it all for the first time, which writes the bytecode"
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -W ignore -c "import mmsdpt, mmdet.apis, mmdet.models, mmpretrain" >/dev/null \
		|| { echo "the installation does not work; if the message above does not help: make clean-venv install" >&2; exit 1; }
	@touch $@

clean:  ## remove what tools and tests left behind, but neither .venv nor your runs
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -path "./$(VENV)" -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

clean-venv:  ## remove the virtual environment
	rm -rf "$(VENV)"
