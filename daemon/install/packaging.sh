# What install.sh, install-mount-helper.sh, uninstall.sh and systemd/debian/build.sh share; sourced by
# them in the top of the checkout, with $PREFIX and $DESTDIR. Nothing of it writes into the checkout: that may
# be an ordinary user's, and this root.
# shellcheck shell=bash disable=SC2034,SC2153  # for those who source it; from the Makefile
. daemon/install/functions.sh

umask 022
prefix=$PREFIX destdir=$DESTDIR
library=$prefix/lib/ovl-linkd state=$destdir$prefix/lib/ovl-linkd
# Both end up in scripts, units and patterns.
for word in "$prefix" "$destdir"; do
    [[ $word =~ ^(/[A-Za-z0-9._+-]+)*$ && $word != *..* ]] && continue
    echo "make: '$word' is not an absolute path of plain letters, without a / at the end" >&2
    exit 1
done

# Where mount(8) looks for the helper, on a merged /usr and on one that isn't.
helper=/usr/sbin/mount.overlay
[[ ! -d $destdir/sbin || -L $destdir/sbin ]] || helper=/sbin/mount.overlay

# only_root TARGET WHY: ends here where this machine itself would change and we aren't root.
only_root() {
    [[ -z $destdir ]] && (( EUID )) || return 0
    echo "$1: only root can $2; use sudo make $1" >&2
    exit 1
}

# build: a copy of the sources in $work, in which we go on; in $built a $wheel made of it, the packages
# of an environment with that, and the environment, which has by then what the documents need, too.
# All goes with us, as does $new. Where $OVL_LINKD_BUILT is set, that directory keeps what was built for
# those that come next, whatever the sources are by then: the tests install again and again.
build() {
    has ensurepip venv || need python3-venv
    work=$(mktemp -d) new=
    trap 'rm -rf "$work" ${new:+"$new"}' EXIT
    mkdir "$work/source"
    tar --create --exclude=__pycache__ --exclude='*.egg-info' --owner=0 --group=0 \
        config daemon docs systemd pyproject.toml CHANGELOG.md LICENSE README.md SECURITY.md |
        tar --extract --no-same-owner --directory="$work/source"
    cd "$work/source"
    local shared=${OVL_LINKD_BUILT-}
    built=$work/built
    pip=("$built/venv/bin/python" -m pip --quiet --no-input --no-cache-dir)
    if [[ -n $shared && -d $shared ]]; then
        cp -a "$shared" "$built"
    else
        "$PYTHON" -m venv --system-site-packages "$built/venv"
        "${pip[@]}" wheel --no-deps --wheel-dir "$built" "$work/source"
        "${pip[@]}" install "$built"/*.whl
        cp -a "$(packages)" "$built/packages"
        "${pip[@]}" install "$(echo "$built"/*.whl)[docs]"
        [[ -z $shared ]] || keep "$shared"
    fi
    wheel=$(echo "$built"/*.whl)
}

# packages: where the environment has them.
packages() {
    "$built/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

# keep DIRECTORY: what was built, unless another was quicker.
keep() {
    cp -a "$built" "$1.$$"
    mv -T "$1.$$" "$1" 2>/dev/null || rm -r "$1.$$"
}

# all_but_the_program DIRECTORY CODE: below DIRECTORY as it will lie below /. ovl_linkd will lie in CODE.
all_but_the_program() {
    local root=$1 code=$2 share=$1$prefix/share unit
    "$built/venv/bin/python" docs/man.py "$share/man"
    "$built/venv/bin/python" docs/completions.py "$share"
    for unit in systemd/*.service systemd/*.socket; do
        install -D -m 644 "$unit" "$root$prefix/lib/systemd/system/${unit##*/}"
        sed -i "s#/usr/bin/ovl-linkd#$prefix/bin/ovl-linkd#g" \
            "$root$prefix/lib/systemd/system/${unit##*/}"
    done
    install -D -m 644 -t "$root$prefix/lib/tmpfiles.d" systemd/tmpfiles.d/*.conf
    install -D -m 644 -t "$root$prefix/lib/systemd/catalog" systemd/*.catalog
    install -D -m 644 -t "$share/ovl-linkd" config/config.yaml config/config.schema.json
    install -D -m 644 -t "$share/ovl-linkd/examples" config/examples/*.yaml
    install -D -m 644 -t "$share/doc/ovl-linkd" docs/*.example.yml README.md CHANGELOG.md SECURITY.md LICENSE
    install -D -t "$root$library" daemon/mount-helper/mount.overlay
    sed -i "s#^library=.*#library=$code#" "$root$library/mount.overlay"
    # Elsewhere it would not be read; the program has a copy of its own to fall back on.
    [[ $prefix != /usr ]] ||
        install -D -m 644 -t "$root$library" config/config.yaml
}

# directory PATH LIST: made with its parents; those that were not there are written down in LIST.
directory() {
    [[ -d $destdir$1 ]] && return
    directory "$(dirname "$1")" "$2"
    mkdir "$destdir$1"
    echo "$1" >>"$2"
}

# tell_systemd: that units, and explanations for the journal, came or went.
tell_systemd() {
    [[ -z $destdir ]] && (( EUID == 0 )) || return 0
    ! command -v journalctl >/dev/null || journalctl --update-catalog || true
    [[ ! -d /run/systemd/system ]] || systemctl daemon-reload
}
