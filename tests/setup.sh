#!/bin/bash
# make setup-test: what the tests need, in $VENV and build/, after make setup. With `bench` also what
# the benchmarks need: Debian's packages to compare with.
set -euo pipefail
cd "${BASH_SOURCE%/*}/.."
. daemon/install/functions.sh

# unpack DIRECTORY PACKAGE...: makes DIRECTORY of what these Debian packages hold. Installed, they
# would start services on this machine or drive out packages that it has.
unpack() {
    local directory=$1 new debs package output
    shift
    [[ ! -e $directory ]] || return 0
    echo "setup: unpacking $*"
    mkdir -p "${directory%/*}"
    new=$(mktemp -d "$directory.XXXXXXXX")
    debs=$(mktemp -d)
    get() { (cd "$debs" && apt-get -qq -o APT::Sandbox::User=root download "$@" 2>&1); }
    output=$(get "$@") || output=$(apt update && get "$@") ||
        { echo "$output"; echo "setup: apt-get download $* failed"; return 1; } >&2
    # What some releases have in /bin or /lib is where the others have it.
    for package in "$debs"/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar --extract --no-same-owner --directory="$new" \
            --transform='s#^\./\(bin\|lib\|sbin\)/#./usr/\1/#'
    done
    rm -r "$debs"
    chmod 755 "$new"
    mv -T "$new" "$directory"
}

# closure PACKAGE: it and what it needs, as far as this machine lacks it.
closure() {
    local simulate=(apt-get -qq --simulate --no-install-recommends install "$1")
    "${simulate[@]}" >/dev/null 2>&1 || apt update >/dev/null
    "${simulate[@]}" | sed -n 's/^Inst \([^ ]*\).*/\1/p'
}

for_tests() {
    local command package missing=() twelve
    while read -r command package; do
        command -v "$command" >/dev/null || missing+=("$package")
    done <<'END'
crun crun
debootstrap debootstrap
faketime faketime
man man-db
pkill procps
runc runc
shellcheck shellcheck
systemd-nspawn systemd-container
tmpreaper tmpreaper
END
    [[ -e /usr/include/stdio.h ]] && command -v cc >/dev/null || missing+=(gcc libc6-dev)
    need "${missing[@]}"
    unpack build/containerd containerd docker-registry busybox-static
    # shellcheck disable=SC2046  # packages are words
    [[ -e build/podman ]] || command -v podman >/dev/null || unpack build/podman $(closure podman)
    if (( EUID == 0 )) || command -v sudo >/dev/null; then
        as_root tests/userland.sh bookworm build/debian-12 & twelve=$!
        as_root tests/userland.sh trixie build/debian-13
        wait "$twelve"
    fi
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

case ${1-} in
'') for_tests ;;
bench) for_benchmarks ;;
esac
