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
# One file's tests stay together, in their order.
TWO_CORES := --numprocesses=2 --dist=loadfile
LAB := PYTHONPATH=.:schemas:tools $(BIN)/python -m lab
CODE := memreact kernelio schemas tools tests packaging

# Tests that were compiled once are not compiled again, whatever the shell that calls says.
unexport PYTHONDONTWRITEBYTECODE

# Builds of one commit are the same bytes, on whatever day.
export SOURCE_DATE_EPOCH ?= $(shell git -c safe.directory='*' log -1 --pretty=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)

.PHONY: help setup test test-fast checks lint unit floor system wheel wheel-check deb deb-check \
	demo screens latency compaction breakoff view ledger swap storm recording clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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
	$(BIN)/mypy tests packaging
	$(BIN)/lint-imports --no-logo

unit: .venv/.complete ## unit tests on the newest versions; of random input a third, daemons on uvloop alone
	MEMREACT_TESTS=quick $(BIN)/python $(PYTEST) $(TWO_CORES)

floor: build/floor-venv/.complete ## unit tests on the oldest versions, those of Debian 13, with coverage
	@packaging/need tmux
	@rm -f .coverage .coverage.*
	build/floor-venv/bin/coverage run $(PYTEST) $(TWO_CORES) -p no:cacheprovider
	@build/floor-venv/bin/coverage combine --quiet
	build/floor-venv/bin/coverage report --skip-covered --skip-empty

system: .venv/.complete deb ## tests in a real guest under QEMU
	$(LAB) setup
	$(BIN)/python $(PYTEST) tests/system -m system -o faulthandler_timeout=0

wheel: .venv/.complete ## dist/memreact-*.whl
	@rm -f dist/memreact-*.whl
	$(BIN)/hatchling build --target wheel --directory dist

wheel-check: wheel ## the wheel installed and run in a fresh .venv
	@rm -rf build/wheel-venv
	$(BIN)/python -m venv build/wheel-venv
	build/wheel-venv/bin/python $(PIP) install --constraint requirements-dev.txt dist/memreact-*.whl
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

storm: .venv/.complete ## thousands of settings updates a second at the real daemon, under real pressure
	$(LAB) storm

recording: .venv/.complete deb ## ten minutes of turns recorded and decided again, what-ifs, the cost
	$(LAB) setup
	@mkdir -p build
	$(LAB) recording

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
	@touch $@

build/floor-venv/.complete: requirements-dev.txt requirements-floor.txt .venv/.complete
	@echo "setting up build/floor-venv"
	@$(BIN)/python -m venv build/floor-venv
	@build/floor-venv/bin/python $(PIP) install --requirement requirements-dev.txt
	@build/floor-venv/bin/python $(PIP) install --requirement requirements-floor.txt
	@touch $@
