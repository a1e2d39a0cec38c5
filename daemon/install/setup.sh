#!/bin/bash
# make setup: the program and what it needs, in $VENV.
set -euo pipefail
cd "${BASH_SOURCE%/*}/../.."
. daemon/install/functions.sh

missing_to_run
has ensurepip venv || missing+=(python3-venv)
need "${missing[@]}"
version=$("$PYTHON" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! "$PYTHON" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "setup: $PYTHON is Python $version, and 3.11 is needed: use Debian 12 or later" >&2
    exit 1
fi
# A .venv dies with the Python minor version it was made for, and when it is moved.
wanted="$version $PWD $(sha256sum <pyproject.toml)"
[[ $(cat "$VENV/setup" 2>/dev/null || true) != "$wanted" ]] || exit 0
echo "setup: making $VENV"
rm -rf "$VENV"
"$PYTHON" -m venv --system-site-packages "$VENV"
"$VENV/bin/python" -m pip install -qq --editable .
# Compiled now, so that no start of a command has to, and by the owner of the checkout.
"$VENV/bin/python" -m compileall -q daemon/ovl_linkd
echo "$wanted" >"$VENV/setup"
