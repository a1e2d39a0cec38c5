#!/bin/bash
# userland.sh RELEASE DIRECTORY: makes DIRECTORY the files of a small Debian, as root. Tests put a
# writable layer over it, run programs in it that the machine itself lacks, or boot it.
set -euo pipefail

release=$1 directory=$2 new=$2.new
packages=python3,python3-jsonschema,python3-systemd,python3-yaml,systemd
wanted="$release $packages"
made=etc/ovl-linkd-userland

mkdir -p "${directory%/*}"
exec 9>"$directory.lock"
flock 9
[[ $(cat "$directory/$made" 2>/dev/null || true) != "$wanted" ]] || exit 0

# Where this machine gets its Debian, by which proxy: apt knows, whatever form its files have.
mirrors() {
    # shellcheck disable=SC2016  # apt's own $( )
    apt-get indextargets --format '$(REPO_URI)' \
        'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main'
}
mirror=$(mirrors | sed -n '1s|/$||p')
[[ -n $mirror ]] || { apt-get -qq update; mirror=$(mirrors | sed -n '1s|/$||p'); }
# As on Debian's cloud images: a file with a mirror a line.
[[ $mirror != mirror+file:* ]] || mirror=$(sed 's/[[:space:]].*//; q' "${mirror#mirror+file:}")
[[ -n $mirror ]] || { echo "setup: apt knows no mirror of Debian to make $directory from" >&2; exit 1; }
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
