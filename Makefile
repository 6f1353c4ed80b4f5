# Everything from a fresh clone with Python 3.11 or newer: `make demo`, `make test`. `make help` lists the rest.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
ifeq ($(origin PYTHON),command line)
# A Python that the command line names gets an environment of its own, as in `make test PYTHON=python3.13`. It is called by
# the release, because different releases may have one name in different folders.
RELEASE := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv-python$(or $(RELEASE),$(error PYTHON=$(PYTHON) is not a Python: name a command or a path, as in PYTHON=python3.13))
endif
BIN := $(VENV)/bin

# Containers often set it. Each process would then compile all of the source, and each pytest its plugins.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test unit programs neighbours browser pictures explore check style types format plug bench bench-quick speed clean

help:
	@echo "make demo    run the simulator against a receiver and show that the mirror is right"
	@echo "make test    check style and types, run every test"
	@echo "make test PYTHON=python3.13    the same with another Python, in an environment of its own"
	@echo "make explore try the properties with new random examples (some minutes)"
	@echo "make pictures rewrite the pictures of the console in docs/pictures"
	@echo "make check   style and types only"
	@echo "make format  lay the code out"
	@echo "make plug    kill processes hundreds of times, and show that nothing is lost (a quarter of an hour)"
	@echo "make bench   measure, on both databases (twenty minutes; needs wrk)"
	@echo "make bench-quick measure the most important figures (three minutes; needs wrk)"
	@echo "make speed   measure where the time goes, and rewrite the tables of docs/speed.md (a quarter of an hour)"
	@echo "make clean   remove what these targets made"

demo: $(VENV)/installed
	@$(BIN)/hookmirror demo

# Files are distributed over processes (tests/support/scheduling.py). Unit tests only compute; the types are checked and the
# programs for the other tests are fetched beside them. More of the other tests run at a time than there are cores, since most of them wait for something.
FILES := --dist loadfile --no-loadscope-reorder
AT_ONCE ?= 4
# Only the unit tests are measured for coverage: they run most of the code in their own process, and measuring would slow
# the other tests down.
MEASURED := COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_FILE=$(CURDIR)/.coverage

test: style
	$(MAKE) --jobs 3 --output-sync programs types unit
	$(BIN)/python -m pytest -n $(AT_ONCE) $(FILES) tests --ignore tests/unit

unit: $(VENV)/installed-dev
	$(BIN)/coverage erase
	$(MEASURED) $(BIN)/python -m pytest -n 2 $(FILES) tests/unit
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# One after the other, because both use apt-get, and only one of its runs can be under way.
programs:
	@$(MAKE) neighbours
	@$(MAKE) browser

# Real programs to test beside, from Debian's packages where root runs this, and the vendors' libraries for Node.js where npm
# is; without them their tests are skipped.
neighbours:
	@sh tests/neighbours/fetch.sh .neighbours
	@sh tests/neighbours/fetch_signers.sh .neighbours/signers

# Chromium for the tests in a browser, from Debian's packages where root runs this; without it their tests are skipped.
browser:
	@sh tests/browser/fetch.sh

# The pictures of the console in the docs, from the simulators' data.
pictures: $(VENV)/installed-dev browser
	$(BIN)/python -m pytest tests/browser/test_pictures.py --pictures

# A failing example goes into the test as an `@example`, which `make test` tries from then on.
explore: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 -m hypothesis --hypothesis-profile explore tests

check: style types

style: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

plug: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/plug -m "long or not long"
	$(BIN)/python -m pytest -n 2 --dist loadfile tests --ignore tests/plug -m long
	$(BIN)/python tests/plug

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/installed-dev
	BENCHMARK_QUICK=1 $(BIN)/python -m benchmarks

# Measures again, and rewrites the tables of docs/speed.md.
speed: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks where parts growth history
	$(BIN)/python -m benchmarks.page

clean:
	rm -rf .venv .coverage .coverage.* .venv-* .peers .neighbours .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	touch $@
