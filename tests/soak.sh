#!/bin/bash
# make soak: what `make test` does in seconds, for hours. More arguments are for pytest.
set -euo pipefail
cd "${BASH_SOURCE%/*}/.."

python() { daemon/install/as-root env SOAK="${SOAK-}" CONTAINERD="${CONTAINERD-}" "$VENV/bin/python" -m "$@"; }

echo "soak: 1. faults, two tests at a time, 60 minutes: a death at every system call; every call met"
echo "      by every error, once and for a while; 1,000 random histories; fights, races and floods of a"
echo "      minute; ten million hostile texts (25 of the minutes)"
SOAK=true python pytest -n 2 --dist worksteal --durations=0 tests/faults "$@"
echo "soak: 2. the property tests with 10,000 examples each, 10 minutes"
python pytest -n 2 --dist worksteal -m hypothesis --hypothesis-profile=soak "$@"
echo "soak: 3. mounts by every way in while cleaners run, $SOAK_SECONDS s"
python tests.endurance --seconds "$SOAK_SECONDS"
echo "soak: 4. the Debian package before lintian, and through an upgrade from 12 to 13, 5 minutes"
python pytest --durations=0 tests/soak_deb.py
echo "soak: 5. containerd and Docker of Debian 12, 13 and sid (containerd 2), pods and Podman, 15 minutes"
tests/setup.sh soak
python pytest --durations=0 tests/system/soak_{docker,podman}.py
for release in bookworm trixie sid; do
    CONTAINERD=build/containers-$release
    python pytest --durations=0 tests/system/containerd/{soak_pods,test_{oci_runtime,readme,root_path,starting}}.py
done
