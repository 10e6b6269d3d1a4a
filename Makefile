# `make help` lists what there is. Nothing here needs more than Debian 12 or 13, python3 and apt.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := setup
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
PIP := -m pip --disable-pip-version-check --quiet
PYTEST := -m pytest
# One file's tests stay together, in their order; tests/conftest.py says which file is first. Half of
# their time is waiting, for a daemon or a terminal, so there are two processes for each core.
TWO_CORES := --numprocesses=4 --dist=loadfile --no-loadscope-reorder
# They make and remove many small files: in memory, where there is room from which programs run.
SCRATCH := $(shell findmnt -nbfo AVAIL,OPTIONS /dev/shm | \
	awk '$$1 > 2 ^ 30 && $$2 !~ /noexec/ { print "TMPDIR=/dev/shm" }')
# They have deadlines of their own.
SYSTEM_TESTS = $(BIN)/python $(PYTEST) tests/system -o faulthandler_timeout=0 --durations=25
# A guest without a processor of its own may be late for what a test sets up for it. So what failed
# is tried once more, in a guest restored anew, and both runs are there to read.
ONCE_MORE = $(1) || { [ $$? -eq 1 ] && echo "once more, what failed:" && $(1) --last-failed; }
LAB := PYTHONPATH=.:schemas:tools $(BIN)/python -m lab
# Lines of what was measured: what is there is not measured again.
RESULTS := build/bench.jsonl
CODE := memreact kernelio schemas tools tests packaging

# Tests that were compiled once are not compiled again, whatever the shell that calls says.
unexport PYTHONDONTWRITEBYTECODE

# Builds of one commit are the same bytes, on whatever day.
export SOURCE_DATE_EPOCH ?= $(shell git -c safe.directory='*' log -1 --pretty=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)

.PHONY: help setup test test-fast checks lint unit floor system wheel wheel-check deb deb-check \
	test-kernels bench bench-native demo screens latency compaction breakoff view ledger swap storm chaos fuzz \
	recording crowd watched clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.complete ## set up .venv with the pinned versions (the default)

test: test-fast floor system ## everything, the guest tests included

test-fast: .venv/.complete ## everything that needs no guest
	@packaging/need lintian systemd tmux
	@$(MAKE) --jobs=2 --keep-going --output-sync=target checks

checks: lint unit wheel-check deb-check

lint: .venv/.complete ## formatting, ruff, mypy strict, import contracts
	$(BIN)/ruff format --check --quiet $(CODE)
	$(BIN)/ruff check --quiet $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

unit: .venv/.complete ## unit tests on the newest versions; of random input a tenth, daemons on uvloop alone
	$(SCRATCH) MEMREACT_TESTS=quick $(BIN)/python $(PYTEST) $(TWO_CORES) --ignore=tests/system

floor: build/floor-venv/.complete ## unit tests on the oldest versions, those of Debian 13, with coverage
	@packaging/need tmux
	@rm -f .coverage .coverage.*
	$(SCRATCH) build/floor-venv/bin/coverage run $(PYTEST) $(TWO_CORES) -p no:cacheprovider
	@build/floor-venv/bin/coverage combine --quiet
	build/floor-venv/bin/coverage report --skip-covered --skip-empty

system: .venv/.complete deb ## tests in a real guest under QEMU
	$(LAB) setup
	$(call ONCE_MORE,$(SYSTEM_TESTS) -m "system and not kernels")

test-kernels: .venv/.complete deb ## guests of every kernel and kind; ONLY="7.x" takes tests by their names
	$(LAB) setup
	$(call ONCE_MORE,$(SYSTEM_TESTS) -m kernels $(if $(ONLY),-k "$(ONLY)"))

wheel: .venv/.complete ## dist/memreact-*.whl
	@rm -f dist/memreact-*.whl
	$(BIN)/hatchling build --target wheel --directory dist

wheel-check: wheel ## the wheel installed and run in a fresh .venv
	@rm -rf build/wheel-venv
	$(BIN)/python -m venv --without-pip build/wheel-venv
	$(BIN)/python $(PIP) --python build/wheel-venv install --no-compile --constraint requirements-dev.txt dist/memreact-*.whl
	cd build && wheel-venv/bin/memreact --version
	cd build && wheel-venv/bin/memreact-ctl --help >/dev/null && wheel-venv/bin/memreact-host --help >/dev/null && wheel-venv/bin/memreact-top --help >/dev/null
	cd build && : >empty.toml && wheel-venv/bin/memreact check empty.toml
	cd build && for unit in memreact.service memreact-put-back.service; do \
		wheel-venv/bin/memreact unit --print --systemd 257 $$unit \
			| sed "s,=$$PWD/wheel-venv/bin/,=/usr/bin/," | diff - ../packaging/$$unit; done

deb: wheel ## dist/memreact_*.deb
	@rm -f dist/*.deb
	$(BIN)/python packaging/build_deb.py dist/memreact-*.whl dist

deb-check: deb ## the .debs, checked by lintian
	@packaging/need lintian systemd
	systemd-analyze security --offline=true --threshold=40 --no-pager packaging/memreact.service | tail -1
	lintian --info --fail-on error,warning dist/*.deb 2>&1 | { grep -v 'root privileges' || true; }

demo: .venv/.complete deb ## a real guest gives memory back while redis keeps its speed
	@$(LAB) setup
	$(LAB) demo

screens: .venv/.complete deb ## the pictures of memreact-top in docs, taken during the demo
	@$(LAB) setup
	$(LAB) demo --screens docs

latency: .venv/.complete deb ## how long from a stall to the stop, in a real guest
	$(LAB) setup
	$(LAB) latency

swap: .venv/.complete deb ## cold memory of a real guest goes to its host's file and to zram, and comes back
	$(LAB) setup
	$(LAB) swap

compaction: .venv/.complete deb ## what comes back of memory in pieces, a guest for each row of a table
	$(LAB) setup
	$(LAB) compaction

breakoff: .venv/.complete deb ## how long a compaction goes on after a stall, in a real guest
	$(LAB) setup
	$(LAB) breakoff

view: .venv/.complete deb ## two real guests, seen from both sides
	$(LAB) setup
	$(LAB) view

ledger: .venv/.complete deb ## memreact's books beside what the host holds, for ten minutes
	$(LAB) setup
	$(LAB) ledger

bench: .venv/.complete deb ## memreact beside its rivals, for hours; goes on where it was; then docs/benchmarks.md
	$(LAB) setup
	$(LAB) bench --results $(RESULTS) $(if $(WORKLOADS),--workloads $(WORKLOADS))
	$(LAB) bench-page --results $(RESULTS)

bench-native: .venv/.complete ## what the parts of memreact cost on this machine, by pyperf
	PYTHONPATH=.:schemas:tools $(BIN)/python -m lab.bench.native --results $(RESULTS)

storm: .venv/.complete ## thousands of settings updates a second at the real daemon, under real pressure
	$(LAB) storm

chaos: .venv/.complete deb ## faults at random in a real guest, and what must hold all the while: SECONDS=600 SEED=1
	$(LAB) setup
	$(LAB) chaos --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1)

fuzz: build/fuzz-venv/.complete ## bytes that break parsers and servers, led by coverage: SECONDS=20 of each target
	PYTHONPATH=.:schemas:tools build/fuzz-venv/bin/python -m tests.fuzz --seconds $(or $(SECONDS),20) $(TARGETS)

recording: .venv/.complete deb ## ten minutes of turns recorded and decided again, what-ifs, the cost
	$(LAB) setup
	@mkdir -p build
	$(LAB) recording

crowd: .venv/.complete deb ## memreact-top on a real guest of 2,000 cgroups: what it costs, what it drops
	$(LAB) setup
	$(LAB) crowd

watched: .venv/.complete deb ## how long to the stop with and without a flight recorder, and with a memreact-top
	$(LAB) setup
	$(LAB) watched

clean: ## remove what was built; .venv and the lab's images stay
	rm -rf build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.venv/.complete: requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || packaging/need python3 python3-venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11; name another: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || { echo "setting up .venv"; $(PYTHON) -m venv .venv; }
	@$(BIN)/python $(PIP) install --requirement requirements-dev.txt
	@$(BIN)/python $(PIP) install --no-deps --no-build-isolation --editable .
	@$(BIN)/python $(PYTEST) --collect-only -q >/dev/null || true  # compiled here once, not by each that tests
	@touch $@

build/floor-venv/.complete: requirements-dev.txt requirements-floor.txt .venv/.complete
	@echo "setting up build/floor-venv"
	@$(BIN)/python -m venv build/floor-venv
	@build/floor-venv/bin/python $(PIP) install --requirement requirements-dev.txt
	@build/floor-venv/bin/python $(PIP) install --requirement requirements-floor.txt
	@touch $@

# tomli in Python, so that what it does is seen; atheris has wheels for the Pythons of Debian 12 and 13.
build/fuzz-venv/.complete: requirements-dev.txt .venv/.complete
	@echo "setting up build/fuzz-venv"
	@$(BIN)/python -m venv build/fuzz-venv
	@build/fuzz-venv/bin/python $(PIP) install --requirement requirements-dev.txt
	@build/fuzz-venv/bin/python $(PIP) install --no-deps --force-reinstall --no-binary tomli tomli==2.5.0
	@build/fuzz-venv/bin/python $(PIP) install atheris==3.0.0
	@touch $@
