#!/bin/bash
# make install: the program below $DESTDIR$PREFIX, for this machine or for a package.
#
# PREFIX/lib/ovl-linkd/env leads to the program, an environment of its own. A new one is made beside
# it and takes its place by one rename(2): a daemon that runs goes on in the old one, and so does a
# command or a mount.overlay that starts just now. Which is why the old one stays until the next
# install, or for as long as somebody uses it.
set -euo pipefail
cd "${BASH_SOURCE%/*}/../.."
. daemon/install/packaging.sh

# program NAME MODULE: a command whose script() is MODULE's. After an upgrade of the distribution it
# finds nothing: 78 is what keeps systemd from trying again and again.
program() {
    cat >"$new/bin/$1" <<END
#!${new#"$destdir"}/bin/python -I
import sys
try:
    from $2 import script
except ModuleNotFoundError as error:
    if error.name != "ovl_linkd":
        raise
    print("$1: it was installed for another Python ($python): make install it again",
          file=sys.stderr)
    sys.exit(78)
script()
END
    chmod 755 "$new/bin/$1"
}

# make_environment: in $new, what the program needs, moved out of the environment it was built in: no
# pip, no setuptools.
make_environment() {
    local packages inside python
    packages=$(packages)
    inside=${packages#"$built/venv/"} python=$(basename "${packages%/*}")
    new=$(mktemp -d "$state/env.XXXXXXXX")
    chmod 755 "$new"
    mkdir -p "$new/bin" "$new/$inside"
    ln -s "$PYTHON" "$new/bin/python"
    printf '%s\n' "home = $(dirname "$PYTHON")" 'include-system-site-packages = true' >"$new/pyvenv.cfg"
    program ovl-linkd ovl_linkd.cli
    program ovl-linkd-runc ovl_linkd.oci_runtime.wrapper
    tar --create --directory="$built/packages" --exclude=./pip --exclude='./pip-*' --exclude='./_distutils_hack' \
        --exclude='./setuptools*' --exclude='./pkg_resources' --exclude='./distutils-precedence.pth' \
        --exclude=__pycache__ . | tar --extract --no-same-owner --directory="$new/$inside"
    rm -f "$new/$inside"/ovl_linkd-*.dist-info/direct_url.json  # where it was built
    # mount.overlay runs it on whatever Python there is then: nothing here may know a minor version.
    mkdir "$new/python"
    ln -s "../$inside/ovl_linkd" "$new/python/ovl_linkd"
    # Compiled now: the service may not write there, and no start of a command has to do it.
    "$new/bin/python" -I -m compileall -q -s "$destdir" "$new/lib"
}

# put_in_place: all of $work/root, and $new as the environment. What is about to come is written down
# first, so that an install that was interrupted can be taken away.
put_in_place() {
    local path
    (cd "$work/root" && find . ! -type d -printf '/%P\n' | LC_ALL=C sort) >"$work/manifest"
    touch "$work/old"
    [[ ! -e $state/manifest ]] || LC_ALL=C sort "$state/manifest" >"$work/old"
    LC_ALL=C sort -u "$work/manifest" "$work/old" >"$state/manifest"
    old=$(readlink "$state/env" || true)
    ln -sfn "${new##*/}" "$state/env.new"
    mv -T "$state/env.new" "$state/env"
    kept=$new new=
    while IFS= read -r path; do
        directory "$(dirname "$path")" "$state/directories"
        rm -f "$destdir$path.new"
        cp -P --preserve=mode "$work/root$path" "$destdir$path.new"
        mv -T "$destdir$path.new" "$destdir$path"
    done <"$work/manifest"
    LC_ALL=C comm -13 "$work/manifest" "$work/old" | while IFS= read -r path; do
        rm -f "$destdir$path"
    done
    cp "$work/manifest" "$state/manifest"
}

# in_use DIRECTORY: whether a process runs the program from there.
in_use() {
    grep -lzqsF "$1/bin/python" /proc/[0-9]*/cmdline
}

only_root install "install below $prefix"
if [[ ! -e $state/manifest ]] && [[ -e $state || -e $destdir$prefix/bin/ovl-linkd ]]; then
    echo "install: $state or ovl-linkd itself is there, but not by 'make install';" \
        "remove that (a package?) first, or use another PREFIX" >&2
    exit 1
fi
if [[ -z $destdir ]]; then
    missing_to_run
    need "${missing[@]}"
fi
echo "install: building"
build
mkdir -p "$destdir/"
touch "$work/directories"
directory "$library" "$work/directories"
cat "$work/directories" >>"$state/directories"
touch "$state/manifest"
make_environment
all_but_the_program "$work/root" "$library/env/python"
mkdir -p "$work/root$prefix/bin"
for name in ovl-linkd ovl-linkd-runc; do
    ln -s "../lib/ovl-linkd/env/bin/$name" "$work/root$prefix/bin/$name"
done
! grep -qsxF "$helper" "$state/manifest" ||
    install -D "$work/root$library/mount.overlay" "$work/root$helper"

# From here on the machine changes.
put_in_place
for environment in "$state"/env.*; do
    [[ $environment == "$kept" || $environment == "$state/$old" ]] ||
        in_use "${environment#"$destdir"}" || rm -rf "$environment"
done
# A configuration may be there before its program, by an uninstall or another machine.
[[ -n $destdir || ! -d /etc/ovl-linkd ]] || "$kept/bin/python" -I -m ovl_linkd tmpfiles --write || true
tell_systemd
echo "install: $prefix/bin/ovl-linkd $("$kept/bin/python" -I -m ovl_linkd --version | cut -d' ' -f2)"
if [[ -n $old && -d $state/$old ]]; then
    echo "install: what runs goes on with the version it has: systemctl restart ovl-linkd"
elif [[ -z $destdir && -z $old && -d /run/systemd/system ]]; then
    echo "install: systemctl enable --now ovl-linkd"
fi
