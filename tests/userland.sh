#!/bin/bash
# userland.sh RELEASE DIRECTORY: makes DIRECTORY the files of a small Debian, as root. Tests put a
# writable layer over it, run programs in it that the machine itself lacks, or boot it.
set -euo pipefail
cd "${BASH_SOURCE%/*}/.."

release=$1 directory=$2 new=$2.new
packages=python3,python3-jsonschema,python3-systemd,python3-yaml,systemd
wanted="$release $packages"
made=etc/ovl-linkd-userland

mkdir -p "${directory%/*}"
exec 9>"$directory.lock"
flock 9
[[ $(cat "$directory/$made" 2>/dev/null || true) != "$wanted" ]] || exit 0

. tests/packages.sh
mirror=$(mirror)
# By which proxy apt gets it.
proxy=
eval "$(apt-config shell proxy Acquire::http::Proxy)"
[[ -z $proxy || $proxy == DIRECT ]] || export http_proxy=$proxy

echo "setup: making $directory"
rm -rf --one-file-system "$directory" "$new"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# In a mount namespace of its own: it mounts /proc, and may be interrupted.
if ! unshare --mount debootstrap --variant=minbase --include="$packages" \
    "$release" "$new" "$mirror" >"$log" 2>&1; then
    tail -n 20 "$log" "$new/debootstrap/debootstrap.log" 2>/dev/null || true
    echo "setup: debootstrap could not make $directory"
    exit 1
fi >&2
rm -rf "$new"/var/cache/apt/*.bin "$new"/var/lib/apt/lists/*
echo "$wanted" >"$new/$made"
mv -T "$new" "$directory"
