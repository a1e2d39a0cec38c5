# What can be done with this checkout; `make` alone lists it. Everything ends up in .venv, which
# may be deleted at any time; Debian packages are installed where something is missing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.DEFAULT_GOAL := help
.PHONY: help setup setup-test setup-bench demo test lint bench soak

# Not whatever python3 comes first on PATH: Debian's python3-systemd belongs to this one, and a
# service that hides /root and /home can still start it.
PYTHON := /usr/bin/python3
VENV := .venv
# More arguments for pytest: make test ARGS='-k keeper -x'
ARGS :=

# The system administrator's directories: a user's PATH on Debian doesn't have them.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

define FUNCTIONS
as_root() {
    if (( EUID == 0 )); then
        "$$@"
    elif command -v sudo >/dev/null; then
        # Root must leave no byte code of its own in a checkout that isn't root's.
        sudo env PATH="$$PATH" CI="$${CI-}" PYTHONDONTWRITEBYTECODE=1 "$$@"
    else
        echo "make: neither root nor sudo: some of this will not work" >&2
        "$$@"
    fi
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$$@" 2>&1
}

# need PACKAGE...: installs these Debian packages.
need() {
    (( $$# )) || return 0
    local by_hand="install it by hand; on Debian: apt-get install $$*" output
    if ! command -v apt-get >/dev/null || { (( EUID )) && ! command -v sudo >/dev/null; }; then
        echo "setup: something is missing here, and apt-get can't be used: $$by_hand" >&2
        return 1
    fi
    echo "setup: installing $$*"
    # Package lists may be missing, as on a fresh image, or so old that the mirror moved on.
    apt-cache show "$$@" >/dev/null 2>&1 || output=$$(apt update) || true
    output=$$(apt install --yes --no-install-recommends "$$@") ||
        output=$$(apt update && apt install --yes --no-install-recommends "$$@") ||
        { echo "$$output"; echo "setup: apt-get failed: $$by_hand"; return 1; } >&2
}

# has MODULE...: whether the system's Python has them.
has() {
    local module
    for module; do "$(PYTHON)" -I -c "import $$module" 2>/dev/null || return 1; done
}
endef

help:  ## this list
	sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do
	    printf '  make %-12s %s\n' "$$name" "$$what"
	done

setup:  ## what running needs, in .venv; the command is .venv/bin/ovl-linkd
	$(FUNCTIONS)
	missing=()
	has ensurepip venv || missing+=(python3-venv)
	has systemd.daemon || missing+=(python3-systemd)
	command -v mount >/dev/null || missing+=(mount)
	command -v systemd-tmpfiles >/dev/null || missing+=(systemd)
	need "$${missing[@]}"
	version=$$($(PYTHON) -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	if ! $(PYTHON) -I -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
	    echo "setup: $(PYTHON) is Python $$version, and 3.11 is needed: use Debian 12 or later" >&2
	    exit 1
	fi
	# A .venv dies with the Python minor version it was made for, and when it is moved.
	wanted="$$version $(CURDIR) $$(sha256sum <pyproject.toml)"
	[[ $$(cat $(VENV)/setup 2>/dev/null || true) != "$$wanted" ]] || exit 0
	echo "setup: making $(VENV)"
	rm -rf $(VENV)
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(VENV)/bin/python -m pip install -qq --editable .
	# Compiled now, so that no start of a command has to, and by the owner of the checkout.
	$(VENV)/bin/python -m compileall -q daemon/ovl_linkd
	echo "$$wanted" >$(VENV)/setup

setup-test: setup  ## and what the tests need
	$(FUNCTIONS)
	command -v tmpreaper >/dev/null || need tmpreaper
	[[ ! -e $(VENV)/setup-test ]] || exit 0
	echo "setup: adding what the tests need to $(VENV)"
	$(VENV)/bin/python -m pip install -qq --editable '.[test]'
	touch $(VENV)/setup-test

setup-bench: setup-test  ## and what the benchmarks need: a C compiler for the loop to compare with
	$(FUNCTIONS)
	[[ -e /usr/include/stdio.h ]] && command -v cc >/dev/null || need gcc libc6-dev

demo: setup  ## the whole story on real overlay mounts; leaves nothing behind
	$(FUNCTIONS)
	as_root $(VENV)/bin/ovl-linkd demo

test: setup-test  ## every test, as root, in a mount namespace of their own; CI=true: a skip fails
	$(FUNCTIONS)
	as_root $(VENV)/bin/python -m pytest --durations=5 $(ARGS)

lint: setup-test  ## only the tests of the source itself: ruff, mypy, import directions
	$(VENV)/bin/python -m pytest -q tests/test_house.py $(ARGS)

bench: setup-bench  ## the promised speeds, as ratios to a C loop, to mount(2), to bare Python
	$(FUNCTIONS)
	as_root $(VENV)/bin/python -m tests.bench $(ARGS)

soak: setup-test  ## the property tests alone, with 10,000 examples each; some ten minutes
	$(FUNCTIONS)
	as_root $(VENV)/bin/python -m pytest -m hypothesis --hypothesis-profile=soak $(ARGS)
