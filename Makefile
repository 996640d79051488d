# Two verbs do everything: `make lab` to study, `make test` to check. The others are parts of them.
PYTHON ?= python3
PORT ?= 8888
BROWSER ?=
RUN ?=
BENCH ?= $(wildcard benchmarks/*.py)
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: help setup lab test run bench lint chromium clean

help:
	@echo "make lab     install, then open the first lesson in JupyterLab (PORT=8888, BROWSER=none to only serve)"
	@echo "make test    install, then run every test: units, doctests, all notebooks, the browser"
	@echo "make setup   only install into .venv"
	@echo "make run     run all notebooks in the quick profile; a table and a page of each in runs/ (RUN=01 for one)"
	@echo "make bench   measurements against other libraries, half an hour (BENCH=benchmarks/world.py for one)"
	@echo "make lint    format and lint"
	@echo "make clean   remove .venv, runs and caches"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "avlab needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Say which to take: make PYTHON=python3.11 ...")'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV) || { echo "No venv could be made (Debian: apt install python3-venv)"; exit 1; }
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

lab: setup
	$(VENV)/bin/avlab lab --port $(PORT) $(if $(filter none,$(BROWSER)),--no-browser)

test: setup chromium
	$(VENV)/bin/python -m pytest

run: setup
	$(VENV)/bin/avlab run $(RUN)

bench: setup
	@for script in $(BENCH); do echo "== $$script"; $(VENV)/bin/python $$script || exit 1; done

lint: setup
	$(VENV)/bin/ruff format avlab tests benchmarks notebooks
	$(VENV)/bin/ruff check avlab tests benchmarks notebooks

chromium: setup
	@$(VENV)/bin/python tests/browser/chromium.py

clean:
	rm -rf $(VENV) runs data/cache/* .pytest_cache .ruff_cache
