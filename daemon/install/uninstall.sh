#!/bin/bash
# make uninstall: takes off what make install put there; refused while somebody needs it, unless $FORCE.
set -euo pipefail
cd "${BASH_SOURCE%/*}/../.."
. daemon/install/packaging.sh

if [[ ! -e $state/manifest ]]; then
    echo "uninstall: nothing was installed by 'make install' below $destdir$prefix"
    exit 0
fi
only_root uninstall "do this"
[[ -s $state/manifest ]] || FORCE=1  # an install that ended before anybody could come to need it

ask=("$state/env/bin/python" -I -m ovl_linkd.dependents --root "${destdir:-/}")
outcome=0
[[ -n $FORCE ]] || said=$("${ask[@]}" 2>&1) || outcome=$?
if (( outcome )); then
    if (( outcome == 3 )); then
        echo "uninstall: this still depends on ovl-linkd:" >&2
    else
        echo "uninstall: can't tell what depends on ovl-linkd; if the Python that it was" \
            "installed for is gone, first 'make install' it again:" >&2
        said=${said##*$'\n'}
    fi
    # shellcheck disable=SC2001  # every line
    echo "$said" | sed 's/^/  /' >&2
    echo "uninstall: 'make uninstall FORCE=1' takes ovl-linkd away in spite of it" >&2
    exit 1
fi

units=(ovl-linkd.socket ovl-linkd.service ovl-linkd-links.service ovl-linkd-guard.service)
if [[ -z $destdir && -d /run/systemd/system ]]; then
    systemctl --quiet disable --now "${units[@]}" || true
elif command -v systemctl >/dev/null; then
    systemctl --quiet --root="${destdir:-/}" disable "${units[@]}" 2>/dev/null || true
fi
# A directory that is append-only would be there for good, and nobody would know why.
[[ -n $destdir || ! -e $state/env ]] || "$state/env/bin/ovl-linkd" guard --off >/dev/null || true
# Who was overridden by FORCE keeps its links.
[[ -n $FORCE ]] || "${ask[@]}" --remove-links

drop_ins=$destdir/etc/systemd/system/ovl-linkd.service.d
for file in "$destdir/etc/tmpfiles.d/ovl-linkd.conf" "$drop_ins/ovl-linkd.conf"; do
    if [[ -f $file && $(head -n 1 "$file") == '# Written by ovl-linkd '* ]]; then rm "$file"; fi
done
rmdir --ignore-fail-on-non-empty "$drop_ins" 2>/dev/null || true
rm -rf "$destdir/var/lib/ovl-linkd-guard"
run=$destdir/run/ovl-linkd
if [[ -d $run ]]; then
    find "$run" -mindepth 1 -maxdepth 1 ! -name 'config.yaml*' -exec rm -rf {} +
    rmdir --ignore-fail-on-non-empty "$run"
fi
# Made by the unit, and empty unless somebody else uses them.
for name in tmpfiles.d sysctl.d modprobe.d depmod.d modules-load.d binfmt.d sysusers.d extensions confexts; do
    rmdir "$destdir/run/$name" 2>/dev/null || true
done

while IFS= read -r path; do rm -f "$destdir$path"; done <"$state/manifest"
directories=$(LC_ALL=C sort -r "$state/directories")
rm -rf "$state"/env "$state"/env.* "$state/directories" "$state/manifest"
while IFS= read -r path; do
    [[ -z $path ]] || rmdir --ignore-fail-on-non-empty "$destdir$path" 2>/dev/null || true
done <<<"$directories"
tell_systemd
for path in "$destdir/etc/ovl-linkd" "$destdir/run/ovl-linkd"; do
    [[ ! -e $path ]] || echo "uninstall: $path is yours and stays"
done
