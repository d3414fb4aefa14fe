# Two commands on a fresh machine: `make demo` runs the whole business once, `make test` passes the tests.
# Everything lives below this folder: .venv/, build/, var/.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTEST := .venv/bin/python -m pytest
CITY ?= 20000
BENCH_DP ?=

.PHONY: help setup setup-dev demo serve check fix test test-slow test-all test-escape test-escape-unprivileged docs client-wheel bench bench-main bench-enclave bench-dp bench-verification clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-24s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/run.stamp ## install what runs Yunei (hash-pinned) into .venv
setup-dev: .venv/dev.stamp ## install what tests Yunei as well

.venv/run.stamp: requirements/run.lock pyproject.toml tools/setup.sh
	tools/setup.sh run
.venv/dev.stamp: requirements/dev.lock pyproject.toml tools/setup.sh
	tools/setup.sh dev

demo: setup ## the whole business once, on real census data and a generated city
	.venv/bin/yunei demo --residents $(CITY)

serve: setup ## HTTP API on 127.0.0.1:8440 over the deployment in var/
	.venv/bin/yunei serve

check: setup-dev ## lint, types, formatting, generated documents, locks without addresses
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	! grep -n '://' requirements/*.lock
	.venv/bin/python tools/make_compliance.py --check
	.venv/bin/python tools/make_lifecycles.py --check

fix: setup-dev ## repair what can be repaired by a tool
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

test: setup-dev ## the quick tests, with the coverage floor
	$(PYTEST) -m "not slow" -n 2 --dist loadfile --cov --cov-report=term:skip-covered --cov-fail-under=90

test-slow: setup-dev ## the slow tests alone: kills in a loop, schemathesis, large imports
	$(PYTEST) -m slow

test-all: test test-slow ## everything

test-escape: setup-dev ## the jail, attacked
	$(PYTEST) tests/escape

test-escape-unprivileged: setup-dev ## the same as an ordinary user, also when root starts it
	tools/escape_unprivileged.sh

docs: setup-dev ## regenerate the generated documents
	.venv/bin/python tools/make_compliance.py
	.venv/bin/python tools/make_lifecycles.py

client-wheel: setup-dev ## the client's own distribution, into build/client
	cd packaging/client && ../../.venv/bin/python -m hatchling build -t wheel -d ../../build/client

bench: bench-main bench-enclave bench-dp bench-verification ## every benchmark

bench-main: setup-dev ## what a ticket, a jail and a receipt cost over plain DuckDB; writes build/bench/main.json
	.venv/bin/python -m benchmarks.main

bench-enclave: setup-dev ## jail, extract and gate beside bubblewrap and plain DuckDB, and what is left behind; build/bench/enclave.json
	.venv/bin/python -m benchmarks.enclave

bench-dp: setup-dev ## private SQL beside its peers (installed into build/peers) and plain DuckDB; BENCH_DP=--quick for a smoke run
	.venv/bin/python -m benchmarks.dp.main $(BENCH_DP)

bench-verification: setup-dev ## private verification beside its floors: bare curve operations, memory bandwidth, numpy, an endpoint that only commits; BENCH_VERIFICATION=--quick
	.venv/bin/python -m benchmarks.verification $(BENCH_VERIFICATION)

clean: ## remove everything that was made here
	rm -rf .venv build var .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
