# For the scripts that make runs, in the top of the checkout: how they ask for what is missing.
# $PYTHON is the system's.
# shellcheck shell=bash disable=SC2153  # from the Makefile

as_root() { daemon/install/as-root "$@"; }

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" 2>&1
}

# need PACKAGE...: installs these Debian packages.
need() {
    (( $# )) || return 0
    local by_hand="install it by hand; on Debian: apt-get install $*" output
    if ! command -v apt-get >/dev/null || { (( EUID )) && ! command -v sudo >/dev/null; }; then
        echo "setup: something is missing here, and apt-get can't be used: $by_hand" >&2
        return 1
    fi
    echo "setup: installing $*"
    # Package lists may be missing, as on a fresh image, or so old that the mirror moved on.
    apt-cache show "$@" >/dev/null 2>&1 || output=$(apt update) || true
    output=$(apt install --yes --no-install-recommends "$@") ||
        output=$(apt update && apt install --yes --no-install-recommends "$@") ||
        { echo "$output"; echo "setup: apt-get failed: $by_hand"; return 1; } >&2
}

# has MODULE...: whether the system's Python has them.
has() {
    local module
    for module; do "$PYTHON" -I -c "import $module" 2>/dev/null || return 1; done
}

# What the program needs of the system wherever it runs: the packages that are missing, in $missing.
missing_to_run() {
    missing=()
    has systemd.daemon || missing+=(python3-systemd)
    command -v mount >/dev/null || missing+=(mount)
    command -v systemd-tmpfiles >/dev/null || missing+=(systemd)
}
