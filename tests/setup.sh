#!/bin/bash
# make setup-test: what the tests need, in $VENV and build/, after make setup. With `bench` also what
# the benchmarks need: Debian's packages to compare with; with `soak` or `kernels`, what only those need.
set -euo pipefail
cd "${BASH_SOURCE%/*}/.."
. daemon/install/functions.sh
. tests/packages.sh

# unpack DIRECTORY PACKAGE...: makes DIRECTORY of what these Debian packages hold. Installed, they
# would start services on this machine or drive out packages that it has.
unpack() {
    local directory=$1 debs output
    shift
    [[ ! -e $directory ]] || return 0
    echo "setup: unpacking $*"
    mkdir -p "${directory%/*}"
    debs=$(mktemp -d)
    get() { (cd "$debs" && apt-get -qq -o APT::Sandbox::User=root download "$@" 2>&1); }
    output=$(get "$@") || output=$(apt update && get "$@") ||
        { echo "$output"; echo "setup: apt-get download $* failed"; return 1; } >&2
    extract "$debs" "$directory"
    rm -r "$debs"
}

# closure PACKAGE: it and what it needs, as far as this machine lacks it.
closure() {
    local simulate=(apt-get -qq --simulate --no-install-recommends install "$1")
    "${simulate[@]}" >/dev/null 2>&1 || apt update >/dev/null
    "${simulate[@]}" | sed -n 's/^Inst \([^ ]*\).*/\1/p'
}

# lacking: of the lines "COMMAND PACKAGE" on standard input, the packages whose command is not here.
lacking() {
    local command package
    while read -r command package; do
        command -v "$command" >/dev/null || echo "$package"
    done
}

for_tests() {
    local missing
    mapfile -t missing < <(lacking <<'END'
crun crun
faketime faketime
man man-db
mmdebstrap mmdebstrap
pkill procps
runc runc
shellcheck shellcheck
systemd-nspawn systemd-container
tmpreaper tmpreaper
END
    )
    [[ -e /usr/include/stdio.h ]] && command -v cc >/dev/null || missing+=(gcc libc6-dev)
    need "${missing[@]}"
    # At once, or a processor would wait for the network; and to the end, or the next run would meet
    # it. What may have to update apt's lists comes before those that would do so side by side.
    trap wait EXIT
    local jobs=() job
    python_packages & jobs+=($!)
    unpack build/containerd containerd docker-registry busybox-static
    # shellcheck disable=SC2046  # packages are words
    [[ -e build/podman ]] || command -v podman >/dev/null || unpack build/podman $(closure podman)
    if (( EUID == 0 )) || command -v sudo >/dev/null; then
        as_root tests/userland.sh bookworm build/debian-12 & jobs+=($!)
        as_root tests/userland.sh trixie build/debian-13 & jobs+=($!)
    fi
    for job in "${jobs[@]}"; do
        wait "$job"
    done
}

python_packages() {
    [[ ! -e $VENV/setup-test ]] || return 0
    echo "setup: adding what the tests need to $VENV"
    "$VENV/bin/python" -m pip install -qq --editable '.[bench,docs,test]'
    touch "$VENV/setup-test"
}

for_benchmarks() {
    local peer
    for peer in incron "inotify-tools libinotifytools0" python3-watchdog; do
        # shellcheck disable=SC2086  # packages are words
        unpack "build/peers/${peer%% *}" $peer ||
            echo "setup: going on without ${peer%% *} to compare with" >&2
    done
}

# The engines of Debian 12, 13 and of what follows, and the interface by which a kubelet calls them.
for_soak() {
    tests/suite.sh bookworm build/containers-bookworm containerd docker.io
    tests/suite.sh trixie build/containers-trixie containerd docker.io docker-cli
    tests/suite.sh sid build/containers-sid containerd docker.io docker-cli
    tests/suite.sh trixie build/cri golang-github-kubernetes-cri-api-dev
    "$VENV/bin/python" -m pip install -qq --editable '.[soak]'
}

for_kernels() {
    local missing
    mapfile -t missing < <(lacking <<'END'
cpio cpio
qemu-system-aarch64 qemu-system-arm
qemu-system-x86_64 qemu-system-x86
END
    )
    need "${missing[@]}"
}

case ${1-} in
'') for_tests ;;
bench) for_benchmarks ;;
soak) for_soak ;;
kernels) for_kernels ;;
esac
