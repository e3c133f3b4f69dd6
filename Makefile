# make bench      measure every mechanism on this machine and print the table
# make test       lint, types and the whole test suite
# make history    record the last commits with asv
# make dashboard  publish asv's site
# make chaos      the long version of the kill -9 tests
# make test-kernel-debug  random programs on a kernel that checks itself
# make clean      remove everything that the others made here, but no results
#
# No make? As root: apt-get install -y make; or go without: sh ./bootstrap && .venv/bin/refbench run
.PHONY: bench test lint kernels user chaos test-kernel-debug history dashboard clean bootstrap bootstrap-test

# Emulators use their own translator in tests: hardware virtualisation differs between machines.
REFBENCH_ACCEL ?= tcg
export REFBENCH_ACCEL

# How long `make bench` measures; it ends with the last whole round that fits.
BUDGET = 120s

# How many commits `make history` goes back.
COMMITS = 5

bench: bootstrap
	.venv/bin/refbench run --budget $(BUDGET)

bootstrap:
	@sh ./bootstrap

bootstrap-test:
	@sh ./bootstrap test

test: bootstrap-test lint kernels user
	.venv/bin/python -m pytest

lint: bootstrap-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# What the tests boot. The first build takes minutes, and all others find it in the cache.
kernels: bootstrap-test
	.venv/bin/refbench kernel build
	.venv/bin/refbench kernel build --patches v1

# A root run repeats the part of the suite that looks different to an ordinary user, as one.
user: bootstrap-test
	.venv/bin/python tests/as_ordinary_user.py

test-kernel-debug: bootstrap-test
	.venv/bin/refbench kernel build --config debug
	.venv/bin/python -m pytest -m kernel_debug

chaos: bootstrap-test
	.venv/bin/python -m pytest --moments 50 -m chaos

history: bootstrap
	.venv/bin/python -m refbench.history HEAD~$(COMMITS)..HEAD --skip-existing-successful

dashboard: bootstrap
	.venv/bin/asv publish
	@echo "open $(CURDIR)/.asv/html/index.html, or: .venv/bin/asv preview"

clean:
	rm -rf .venv build dist reports .asv/env .asv/html .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	find src -name '*.so' -delete
	rm -rf src/*.egg-info
