#!/bin/bash
# userland.sh RELEASE DIRECTORY: makes DIRECTORY the files of a small Debian, as root. Tests put a
# writable layer over it, run programs in it that the machine itself lacks, or boot it.
set -euo pipefail
cd "${BASH_SOURCE%/*}/.."

release=$1 directory=$2 new=$2.new
packages=python3,python3-jsonschema,python3-systemd,python3-yaml,systemd
signed=/usr/share/keyrings/debian-archive-keyring.gpg
wanted="$release $packages"
made=etc/ovl-linkd-userland

mkdir -p "${directory%/*}"
exec 9>"$directory.lock"
flock 9
[[ $(cat "$directory/$made" 2>/dev/null || true) != "$wanted" ]] || exit 0

. tests/packages.sh
mirror=$(mirror)
echo "setup: making $directory"
rm -rf --one-file-system "$directory" "$new"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# In a mount namespace of its own: it mounts /proc, and may be interrupted. By what apt and dpkg do
# anyway, in half of the time that debootstrap takes; usr-is-merged does without Perl.
if ! unshare --mount mmdebstrap --mode=root --variant=minbase --include="$packages" \
    --hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr --dpkgopt=force-unsafe-io \
    "$release" "$new" "deb [signed-by=$signed] $mirror $release main" >"$log" 2>&1; then
    tail -n 20 "$log"
    echo "setup: mmdebstrap could not make $directory"
    exit 1
fi >&2
echo "$wanted" >"$new/$made"
mv -T "$new" "$directory"
