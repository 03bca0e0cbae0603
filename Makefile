# All targets for people and CI. The virtual environment is .venv; packages are pinned in constraints.txt.
PYTHON ?= python3.11
PORT ?= 8000
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help setup serve demo test lint types contracts unit format bench docs memory lock clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(INSTALLED)  ## create the virtual environment and install everything, pinned

# First everything with hashes, then torch and the project itself, which can have none: pip either checks all or nothing.
$(INSTALLED): pyproject.toml constraints.txt requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serve,s3,dev,bench,evaluate]'
	@touch $@

serve: $(INSTALLED)  ## run all parts on this machine (PORT=8000); Ctrl-C stops them
	@exec $(BIN)/coopserve serve --port $(PORT)

demo: $(INSTALLED)  ## start a server, send real jobs, write picture sheets to out/
	@exec $(BIN)/coopserve demo --out out

test: lint types contracts unit  ## run everything that CI checks

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

contracts: $(INSTALLED)
	$(BIN)/lint-imports

unit: $(INSTALLED)
	$(BIN)/pytest --numprocesses=2 --dist=loadgroup --no-loadscope-reorder --durations=10

format: $(INSTALLED)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## measure engine and service; use a quiet machine
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.service

docs: $(INSTALLED)  ## write the generated files docs/settings.md and service/contract/trainable.json
	$(BIN)/coopserve settings > docs/settings.md
	$(BIN)/python -m models.training.offer > service/contract/trainable.json

memory: $(INSTALLED)  ## measure what each preset takes of memory, for minutes, into service/contract/training_memory.json
	$(BIN)/python -m models.training.memory > service/contract/training_memory.json

lock:  ## write requirements.lock from constraints.txt (needs uv)
	(sed -n '/^#/p' requirements.lock; grep -v '^torch==' constraints.txt | uv pip compile - --quiet --no-deps --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate) > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:  ## remove build outputs; models, data and jobs in var/ stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info build out
