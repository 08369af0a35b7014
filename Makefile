# `make help` lists what there is. ARGS="..." passes options on.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := schemas detectors enrichers notifiers shop streams

.DEFAULT_GOAL := help
.PHONY: help setup parts check test demo format

help:  ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(BIN)/.done  ## make .venv, where the command watchkeep is

$(BIN)/.done: pyproject.toml setup.py constraints.txt streams/_wire.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Watchkeep needs Python 3.11 or newer; name one with make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,plots,dev]'
	@touch $@

parts:  ## build what the tests need and no package brings: Kafka, etcd, kube-apiserver, senders
	@tests/parts/build

check: setup  ## ruff, mypy strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=.src $(BIN)/mypy $(foreach p,$(PACKAGES),-p watchkeep.$(p))
	MYPYPATH=.src:tests:benchmarks $(BIN)/mypy tests
	MYPYPATH=.src:tests:benchmarks $(BIN)/mypy benchmarks
	$(BIN)/lint-imports

test: setup  ## the tests; those whose server is missing are skipped, in CI they fail
	$(BIN)/pytest $(ARGS)

demo: setup  ## a simulated shop with faults through the whole running system
	$(BIN)/watchkeep demo $(ARGS)

chaos: setup  ## disturb the system on real servers at random points, and see that nothing is lost
	@PYTHONPATH=tests:benchmarks $(BIN)/python -m chaos $(ARGS)

bench-%: setup  ## a benchmark: bench-gateway, bench-snapshot, bench-outage, bench-shop, bench-shop-quality, bench-rules, bench-exporters, bench-rest, bench-detectors, bench-bank, bench-nab, bench-kpi, bench-smd
	@PYTHONPATH=tests:benchmarks $(BIN)/python benchmarks/bench_$(subst -,_,$*).py $(ARGS)

format: setup  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
