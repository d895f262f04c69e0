# `make demo` and `make test` need only Python 3.11+ and make.
PYTHON ?= python3
VENV   ?= .venv
DATA   ?=
SEED   ?= 1
MINUTES ?= 3
JOBS    ?= 2
# The tests of a file run in one process, because they share module-scoped fixtures.
PARALLEL = --numprocesses $(JOBS) --dist loadfile
BIN    := $(VENV)/bin

.PHONY: help install environments demo test faults unit check bench soak mutants fuzz image-requirements clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.runtime: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("ReviewLoop needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing ReviewLoop into $(VENV) (the first time downloads about 3 GB, mostly PyTorch: a few minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,demo,train,console]'
	@touch $@

$(VENV)/.development: $(VENV)/.runtime
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,demo,train,console,formats,export,dev]'
	@touch $@

install: $(VENV)/.development  ## create the virtual environment for tests and demo

environments: install  ## make the environments of Label Studio, MLflow and Helm, for the tests that talk to them
	$(BIN)/python -m tests.environments

demo: $(VENV)/.runtime  ## publish, score and query the bundled reviews on a local Kafka and PostgreSQL
	@$(BIN)/reviewloop demo

test: install  ## run the tests on a real Kafka and a real PostgreSQL; JOBS=2 processes
	$(BIN)/python -m pytest tests --ignore=tests/faults $(PARALLEL)

faults: install  ## run the tests that kill processes, brokers and databases
	$(BIN)/python -m pytest tests/faults $(PARALLEL)

unit: install  ## run the tests that need no service
	$(BIN)/python -m pytest tests/unit $(PARALLEL)

check: install  ## check style, types and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: install  ## run a seeded mix of all kinds of faults; SEED=1 MINUTES=3
	$(BIN)/python -m tests.faults.soak --seed $(SEED) --minutes $(MINUTES)

mutants: install  ## break each invariant on purpose; its test must fail
	$(BIN)/python -m tests.mutants

bench: install  ## run every benchmark; DATA=DIR holds the review files
	$(BIN)/python -m benchmarks --data "$(DATA)"

fuzz: install  ## send N messages (a million), most of them broken, through a real worker; SEED=1
	$(BIN)/python -m benchmarks.fuzz --messages "$(or $(N),1000000)" --seed "$(or $(SEED),1)"

# Versions come from constraints.txt; uv uses the index that UV_DEFAULT_INDEX names, PyPI by default.
HASHED := $(BIN)/uv pip compile --quiet --universal --python-version 3.12 -c constraints.txt --generate-hashes --no-annotate --no-header

image-requirements: install  ## write the image's packages with their hashes, after a change of dependencies
	$(HASHED) pyproject.toml --extra train --extra console --extra formats --extra export -o deploy/image/requirements.txt >/dev/null
	echo hatchling | $(HASHED) - -o deploy/image/build-requirements.txt >/dev/null

clean:  ## stop the local stack and remove build results
	-@$(BIN)/reviewloop local down
	rm -rf $(VENV) build dist *.egg-info
