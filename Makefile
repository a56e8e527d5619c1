# Every target sets up what it needs; nothing but Python 3.11+, make and git has to be there.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
READY := $(VENV)/.ready
PARALLEL ?= $(shell nproc 2>/dev/null || echo 2)
LOG := $(VENV)/setup.log
# Torch workers share the cores with the other test processes.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help setup demo examples test lint format bench docs pictures clean

help:
	@echo "make demo    the whole way once: validate, convert, pack, train, ask (about 3 minutes)"
	@echo "make examples  train on packed data with transformers and TRL (under a minute)"
	@echo "make test    all tests"
	@echo "make lint    ruff, mypy --strict, import-linter"
	@echo "make bench   the benchmarks: ratios against peers and the floor"
	@echo "make docs    write the generated pages of docs/ again"
	@echo "make pictures  take the pictures in docs/ again (needs chromium and chromium-driver)"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11; run: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@echo "setting up $(VENV) (a few minutes, once; log: $(LOG))"
	@$(PYTHON) -m venv $(VENV)
	@{ $(BIN)/pip install torch==2.13.0 -c constraints.txt && $(BIN)/pip install -e '.[train,s3,dev]' -c constraints.txt; } > $(LOG) 2>&1 \
		|| { tail -n 20 $(LOG); echo "error: setting up failed; the whole log is in $(LOG)"; exit 2; }
	@$(BIN)/pip install -e '.[ray]' -c constraints.txt >> $(LOG) 2>&1 || echo "Ray has no wheel for this Python or machine: its tests are skipped"
	@touch $@

demo: $(READY)
	@OMP_NUM_THREADS=$(PARALLEL) $(BIN)/python data/demo.py

examples: $(READY)
	@OMP_NUM_THREADS=$(PARALLEL) $(BIN)/python docs/examples/run.py

test: $(READY)
	$(BIN)/python -m pytest -n $(PARALLEL) --dist loadfile

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python benchmarks/run.py

docs: $(READY)
	$(BIN)/python docs/generate.py

pictures: $(READY)
	OMP_NUM_THREADS=$(PARALLEL) $(BIN)/python docs/pictures.py

clean:
	rm -rf $(VENV) build dist demo-run
