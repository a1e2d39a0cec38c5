#!/bin/bash
# make install-mount-helper: mount.overlay where mount(8) finds it, below $DESTDIR.
set -euo pipefail
cd "${BASH_SOURCE%/*}/../.."
. daemon/install/packaging.sh

if [[ ! -e $state/mount.overlay ]]; then
    echo "install-mount-helper: first 'make install', with the same PREFIX and DESTDIR" >&2
    exit 1
fi
only_root install-mount-helper "do this"
if ! grep -qxF "$helper" "$state/manifest"; then
    if [[ -e $destdir$helper || -L $destdir$helper ]]; then
        echo "install-mount-helper: $destdir$helper is somebody else's; remove that first" >&2
        exit 1
    fi
    echo "$helper" >>"$state/manifest"
fi
directory "${helper%/*}" "$state/directories"
install "$state/mount.overlay" "$destdir$helper.new"
mv -T "$destdir$helper.new" "$destdir$helper"
echo "install-mount-helper: $helper: mount(8), fstab and .mount units carry any overlay now"
