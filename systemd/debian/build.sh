#!/bin/bash
# make deb: a Debian package for 12 and 13, in build/.
#
# Debian's libraries where Debian has them, the others, pure Python, beside the program; and nothing
# that knows a minor version of Python, so that an upgrade of the distribution leaves it working.
set -euo pipefail
cd "${BASH_SOURCE%/*}/../.."
PREFIX=/usr DESTDIR=
. daemon/install/packaging.sh

top=$PWD
build
root=$work/root share=$work/root/usr/share debian=systemd/debian
doc=$share/doc/ovl-linkd
mkdir -p "$root$library" "$root/DEBIAN"
"${pip[@]}" install --no-deps --no-compile --target "$root$library" "$wheel" asyncvarlink inotify-simple
if [[ -n $(find "$root$library" -name '*.so' -print -quit) ]]; then
    echo "deb: a library is not pure Python any more" >&2
    exit 1
fi
(cd "$root$library" && rm -rf ./*.dist-info bin)
all_but_the_program "$root" "$library"

version=$("$built/venv/bin/python" -I -m ovl_linkd --version | cut -d' ' -f2)
stamp=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2>/dev/null || date +%s)}
# Whoever publishes the package is who gets its bug reports.
maintainer="${DEBFULLNAME:-The ovl-linkd authors} <${DEBEMAIL:-ovl-linkd@example.org}>"
install -D "$debian/launcher" "$root/usr/bin/ovl-linkd"
sed 's/ovl_linkd[.]cli/ovl_linkd.oci_runtime.wrapper/' "$debian/launcher" >"$root/usr/bin/ovl-linkd-runc"
chmod 755 "$root/usr/bin/ovl-linkd-runc"
install -D "$debian/rtupdate" "$share/python3/runtime.d/ovl-linkd.rtupdate"
mkdir "$share/zsh/vendor-completions"
mv "$share/zsh/site-functions/_ovl-linkd" "$share/zsh/vendor-completions/"
rmdir "$share/zsh/site-functions"
rm "$doc/LICENSE"
install -m 644 "$debian/copyright" "$doc/copyright"
cat >"$doc/changelog" <<END
ovl-linkd ($version) unstable; urgency=medium

  * What changed is in CHANGELOG.md.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$stamp")
END
gzip -9n "$doc/changelog" "$doc/CHANGELOG.md" "$share"/man/man?/*

install -t "$root/DEBIAN" "$debian"/{postinst,prerm,postrm}
size=$(du -k -s --apparent-size --exclude=DEBIAN "$root" | cut -f1)
sed "s/@VERSION@/$version/; s/@MAINTAINER@/$maintainer/; s/@SIZE@/$size/" \
    "$debian/control" >"$root/DEBIAN/control"
chmod -R u=rwX,go=rX "$root"
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | LC_ALL=C sort -z |
    xargs -0 md5sum >DEBIAN/md5sums)
chmod 644 "$root/DEBIAN/md5sums"
find "$root" -exec touch --no-dereference --date="@$stamp" {} +
mkdir -p "$top/build"
SOURCE_DATE_EPOCH=$stamp dpkg-deb --root-owner-group -Zxz --build "$root" \
    "$top/build/ovl-linkd_${version}_all.deb" >/dev/null
echo "deb: build/ovl-linkd_${version}_all.deb"
