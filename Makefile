# What can be done with this checkout; `make` alone lists it. All but `install` ends up in .venv and
# build, which may be deleted at any time; Debian packages are installed where something is missing.

.SILENT:
.DEFAULT_GOAL := help
.PHONY: help setup setup-test setup-bench demo test lint bench soak kernels docs
.PHONY: install install-mount-helper uninstall deb

# Not whatever python3 comes first on PATH: Debian's python3-systemd belongs to this one, and a
# service that hides /root and /home can still start it.
export PYTHON := /usr/bin/python3
export VENV := .venv
# More arguments for pytest: make test ARGS='-k keeper -x', or ARGS='-n 0 --pdb' for one test at a time
ARGS :=
# Two files at a time, in the order of their names: what takes longest does not come last.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

# How long `make soak` mounts while cleaners run.
export SOAK_SECONDS := 600

# Where `make install` puts things, for a package also below which directory; FORCE=1 has
# `make uninstall` take ovl-linkd away from those who need it.
export PREFIX := /usr/local
export DESTDIR :=
export FORCE :=

# The system administrator's directories: a user's PATH on Debian doesn't have them.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

AS_ROOT := daemon/install/as-root

help:  ## this list
	sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do \
	    printf '  make %-20s %s\n' "$$name" "$$what"; \
	done

setup:  ## what running needs, in .venv; the command is .venv/bin/ovl-linkd
	daemon/install/setup.sh

setup-test: setup  ## and what the tests need
	tests/setup.sh

setup-bench: setup-test  ## and what the benchmarks need: Debian's packages to compare with
	tests/setup.sh bench

docs: setup-test  ## bring the generated parts of the manual pages up to date
	$(VENV)/bin/python docs/generate.py

install:  ## put it on this machine; PREFIX=/usr/local DESTDIR=
	daemon/install/install.sh

install-mount-helper:  ## have mount(8) hand overlays to mount.overlay, after 'make install'
	daemon/install/install-mount-helper.sh

uninstall:  ## take it off again; refused while something depends on it, unless FORCE=1
	daemon/install/uninstall.sh

deb:  ## a Debian package for 12 and 13, in build/
	systemd/debian/build.sh

demo: setup  ## the whole story on real overlay mounts; leaves nothing behind
	$(AS_ROOT) $(VENV)/bin/ovl-linkd demo

test: setup-test  ## every test, as root, in a mount namespace of their own; CI=true: a skip fails
	$(AS_ROOT) $(VENV)/bin/python -m pytest $(TWO) --durations=5 $(ARGS)

lint: setup-test  ## only the tests of the source itself: ruff, mypy, shellcheck, import directions
	$(VENV)/bin/python -m pytest -q tests/test_house.py $(ARGS)

# Only what measures is root: the figures and the page belong to the owner of the checkout.
bench: setup-bench  ## everything measured side by side; docs/benchmarks.md is made of it
	mkdir -p build && touch build/bench.json
	code=0; $(AS_ROOT) $(VENV)/bin/python -m tests.bench $(ARGS) || code=$$?; \
	[ $$code -gt 2 ] || $(VENV)/bin/python -m tests.bench.page || exit; exit $$code

soak: setup-test  ## faults and properties in their long form; says what runs and how long it takes
	tests/soak.sh $(ARGS)

kernels: setup-test  ## what depends on the kernel, on Debian's 5.10, 6.1, 6.12 and newer, x86 and arm64
	tests/setup.sh kernels
	$(AS_ROOT) $(VENV)/bin/python -m tests.kernels $(ARGS)
