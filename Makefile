# One verb each: up, down, test, check, bench. Everything lives in .venv inside the repository.
# Paths are relative, so that a space in the repository's own path does no harm.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS_UP := onebox,sklearn
EXTRAS_DEV := dev
# Test processes side by side; most tests wait for processes, so that two cores carry three of them.
WORKERS ?= 3
# Flags of `ladle up`, for example: make up UP="--gateway-port 9080"
UP ?=

help: ## Show the verbs
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.up: pyproject.toml
	@.ci/install "$(PYTHON)" $(VENV) $(EXTRAS_UP)
	@touch $@

$(VENV)/.dev: pyproject.toml
	@.ci/install "$(PYTHON)" $(VENV) $(EXTRAS_DEV)
	@.ci/test-torch $(VENV)
	@touch $@ $(VENV)/.up

up: $(VENV)/.up ## Install, start onebox, serve examples/iris and send it a prediction
	@$(BIN)/ladle up --detach $(UP)
	@$(BIN)/python examples/iris/run.py

down: ## Stop everything that `make up` started
	@if [ -x $(BIN)/ladle ]; then $(BIN)/ladle down; fi

test: $(VENV)/.dev ## Run the whole test suite
	@.ci/test-tools
	@.ci/peers kserve || echo "The tests that need the kserve package will be skipped." >&2
	@# In the order of the files: by number of tests, the files with few slow ones would all come last.
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/.dev ## Run the soaks
	@$(BIN)/python -m pytest -m long --timeout 1800

check: $(VENV)/.dev ## Lint, format, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/.dev ## Run the benchmarks and print ratios
	@$(BIN)/python -m benchmarks

.PHONY: help up down test test-long check bench
