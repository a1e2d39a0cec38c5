# What can be done with this checkout; `make` alone lists it. All but `install` ends up in .venv and
# build, which may be deleted at any time; Debian packages are installed where something is missing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.DEFAULT_GOAL := help
.PHONY: help setup setup-test setup-bench demo test lint bench soak docs
.PHONY: install install-mount-helper uninstall deb

# Not whatever python3 comes first on PATH: Debian's python3-systemd belongs to this one, and a
# service that hides /root and /home can still start it.
PYTHON := /usr/bin/python3
VENV := .venv
# More arguments for pytest: make test ARGS='-k keeper -x', or ARGS='-n 2 --dist loadfile' for two
# at a time
ARGS :=

# How long `make soak` mounts while cleaners run.
SOAK_SECONDS := 600

# Where `make install` puts things, for a package also below which directory; FORCE=1 has
# `make uninstall` take ovl-linkd away from those who need it.
PREFIX := /usr/local
DESTDIR :=
FORCE :=

# The system administrator's directories: a user's PATH on Debian doesn't have them.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

define FUNCTIONS
as_root() {
    if (( EUID == 0 )); then
        "$$@"
    elif command -v sudo >/dev/null; then
        # Root must leave no byte code of its own in a checkout that isn't root's.
        sudo env PATH="$$PATH" CI="$${CI-}" PYTHONDONTWRITEBYTECODE=1 "$$@"
    else
        echo "make: neither root nor sudo: some of this will not work" >&2
        "$$@"
    fi
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$$@" 2>&1
}

# need PACKAGE...: installs these Debian packages.
need() {
    (( $$# )) || return 0
    local by_hand="install it by hand; on Debian: apt-get install $$*" output
    if ! command -v apt-get >/dev/null || { (( EUID )) && ! command -v sudo >/dev/null; }; then
        echo "setup: something is missing here, and apt-get can't be used: $$by_hand" >&2
        return 1
    fi
    echo "setup: installing $$*"
    # Package lists may be missing, as on a fresh image, or so old that the mirror moved on.
    apt-cache show "$$@" >/dev/null 2>&1 || output=$$(apt update) || true
    output=$$(apt install --yes --no-install-recommends "$$@") ||
        output=$$(apt update && apt install --yes --no-install-recommends "$$@") ||
        { echo "$$output"; echo "setup: apt-get failed: $$by_hand"; return 1; } >&2
}

# unpack DIRECTORY PACKAGE...: makes DIRECTORY of what these Debian packages hold. Installed, they
# would start services on this machine or drive out packages that it has.
unpack() {
    local directory=$$1 new debs package output
    shift
    [[ ! -e $$directory ]] || return 0
    echo "setup: unpacking $$*"
    mkdir -p "$${directory%/*}"
    new=$$(mktemp -d "$$directory.XXXXXXXX")
    debs=$$(mktemp -d)
    get() { (cd "$$debs" && apt-get -qq -o APT::Sandbox::User=root download "$$@" 2>&1); }
    output=$$(get "$$@") || output=$$(apt update && get "$$@") ||
        { echo "$$output"; echo "setup: apt-get download $$* failed"; return 1; } >&2
    # What some releases have in /bin or /lib is where the others have it.
    for package in "$$debs"/*.deb; do
        dpkg-deb --fsys-tarfile "$$package" | tar --extract --no-same-owner --directory="$$new" \
            --transform='s#^\./\(bin\|lib\|sbin\)/#./usr/\1/#'
    done
    rm -r "$$debs"
    chmod 755 "$$new"
    mv -T "$$new" "$$directory"
}

# closure PACKAGE: it and what it needs, as far as this machine lacks it.
closure() {
    local simulate=(apt-get -qq --simulate --no-install-recommends install "$$1")
    "$${simulate[@]}" >/dev/null 2>&1 || apt update >/dev/null
    "$${simulate[@]}" | sed -n 's/^Inst \([^ ]*\).*/\1/p'
}

# has MODULE...: whether the system's Python has them.
has() {
    local module
    for module; do "$(PYTHON)" -I -c "import $$module" 2>/dev/null || return 1; done
}
endef

# What install, uninstall and deb share. Nothing of it writes into the checkout: that may be an
# ordinary user's, and this root.
define INSTALLING
umask 022
prefix='$(PREFIX)' destdir='$(DESTDIR)'
library=$$prefix/lib/ovl-linkd
# Both end up in scripts, units and patterns.
for word in "$$prefix" "$$destdir"; do
    [[ $$word =~ ^(/[A-Za-z0-9._+-]+)*$$ && $$word != *..* ]] && continue
    echo "make: '$$word' is not an absolute path of plain letters, without a / at the end" >&2
    exit 1
done

# sources DIRECTORY: a copy of what goes into a package.
sources() {
    mkdir -p "$$1"
    tar --create --exclude=__pycache__ --exclude='*.egg-info' --owner=0 --group=0 \
        config daemon docs systemd pyproject.toml CHANGELOG.md LICENSE README.md SECURITY.md |
        tar --extract --no-same-owner --directory="$$1"
}

# build: a copy of the sources, a $$wheel made of it and an environment with that, all in $$work, which
# goes with us.
build() {
    has ensurepip venv || need python3-venv
    work=$$(mktemp -d)
    new=
    trap 'rm -rf "$$work" $${new:+"$$new"}' EXIT
    sources "$$work/source"
    cd "$$work/source"
    $(PYTHON) -m venv --system-site-packages "$$work/venv"
    pip=("$$work/venv/bin/python" -m pip --quiet --no-input --no-cache-dir)
    "$${pip[@]}" wheel --no-deps --wheel-dir "$$work" "$$work/source"
    wheel=$$(echo "$$work"/*.whl)
    "$${pip[@]}" install "$$wheel"
}

# shared PYTHON DIRECTORY CODE: all but the program itself, below DIRECTORY as it will lie below /.
# PYTHON has ovl_linkd, docutils and shtab; ovl_linkd will lie in CODE.
shared() {
    local python=$$1 root=$$2 code=$$3 share=$$2$$prefix/share unit
    "$$python" docs/man.py "$$share/man"
    "$$python" docs/completions.py "$$share"
    for unit in systemd/*.service systemd/*.socket; do
        install -D -m 644 "$$unit" "$$root$$prefix/lib/systemd/system/$${unit##*/}"
        sed -i "s#/usr/bin/ovl-linkd#$$prefix/bin/ovl-linkd#g" \
            "$$root$$prefix/lib/systemd/system/$${unit##*/}"
    done
    install -D -m 644 -t "$$root$$prefix/lib/tmpfiles.d" systemd/tmpfiles.d/*.conf
    ! compgen -G 'systemd/*.catalog' >/dev/null ||
        install -D -m 644 -t "$$root$$prefix/lib/systemd/catalog" systemd/*.catalog
    install -D -m 644 -t "$$share/ovl-linkd" config/config.yaml config/config.schema.json
    install -D -m 644 -t "$$share/ovl-linkd/examples" config/examples/*.yaml
    install -D -m 644 -t "$$share/doc/ovl-linkd" docs/*.example.yml README.md CHANGELOG.md SECURITY.md LICENSE
    install -D -t "$$root$$library" daemon/mount-helper/mount.overlay
    sed -i "s#^library=.*#library=$$code#" "$$root$$library/mount.overlay"
    # Elsewhere it would not be read; the program has a copy of its own to fall back on.
    [[ $$prefix != /usr ]] ||
        install -D -m 644 -t "$$root$$library" config/config.yaml
}

# directory PATH: made with its parents; those that were not there are written down in $$remember.
directory() {
    [[ -d $$destdir$$1 ]] && return
    directory "$$(dirname "$$1")"
    mkdir "$$destdir$$1"
    echo "$$1" >>"$$remember"
}

# Where mount(8) looks for the helper, on a merged /usr and on one that isn't.
helper=/usr/sbin/mount.overlay
[[ ! -d $$destdir/sbin || -L $$destdir/sbin ]] || helper=/sbin/mount.overlay

# in_use DIRECTORY: whether a process runs the program from there.
in_use() {
    grep -lzqsF "$$1/bin/python" /proc/[0-9]*/cmdline
}

# tell_systemd: that units, and explanations for the journal, came or went.
tell_systemd() {
    [[ -z $$destdir ]] && (( EUID == 0 )) || return 0
    ! command -v journalctl >/dev/null || journalctl --update-catalog || true
    [[ ! -d /run/systemd/system ]] || systemctl daemon-reload
}
endef

help:  ## this list
	sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do
	    printf '  make %-20s %s\n' "$$name" "$$what"
	done

setup:  ## what running needs, in .venv; the command is .venv/bin/ovl-linkd
	$(FUNCTIONS)
	missing=()
	has ensurepip venv || missing+=(python3-venv)
	has systemd.daemon || missing+=(python3-systemd)
	command -v mount >/dev/null || missing+=(mount)
	command -v systemd-tmpfiles >/dev/null || missing+=(systemd)
	need "$${missing[@]}"
	version=$$($(PYTHON) -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	if ! $(PYTHON) -I -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
	    echo "setup: $(PYTHON) is Python $$version, and 3.11 is needed: use Debian 12 or later" >&2
	    exit 1
	fi
	# A .venv dies with the Python minor version it was made for, and when it is moved.
	wanted="$$version $(CURDIR) $$(sha256sum <pyproject.toml)"
	[[ $$(cat $(VENV)/setup 2>/dev/null || true) != "$$wanted" ]] || exit 0
	echo "setup: making $(VENV)"
	rm -rf $(VENV)
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(VENV)/bin/python -m pip install -qq --editable .
	# Compiled now, so that no start of a command has to, and by the owner of the checkout.
	$(VENV)/bin/python -m compileall -q daemon/ovl_linkd
	echo "$$wanted" >$(VENV)/setup

setup-test: setup  ## and what the tests need
	$(FUNCTIONS)
	missing=()
	command -v tmpreaper >/dev/null || missing+=(tmpreaper)
	command -v faketime >/dev/null || missing+=(faketime)
	command -v pkill >/dev/null || missing+=(procps)
	command -v man >/dev/null || missing+=(man-db)
	command -v systemd-nspawn >/dev/null || missing+=(systemd-container)
	command -v debootstrap >/dev/null || missing+=(debootstrap)
	command -v runc >/dev/null || missing+=(runc)
	command -v crun >/dev/null || missing+=(crun)
	[[ -e /usr/include/stdio.h ]] && command -v cc >/dev/null || missing+=(gcc libc6-dev)
	need "$${missing[@]}"
	unpack build/containerd containerd docker-registry busybox-static
	[[ -e build/podman ]] || command -v podman >/dev/null || unpack build/podman $$(closure podman)
	if (( EUID == 0 )) || command -v sudo >/dev/null; then
	    as_root tests/userland.sh bookworm build/debian-12 & twelve=$$!
	    as_root tests/userland.sh trixie build/debian-13
	    wait "$$twelve"
	fi
	[[ ! -e $(VENV)/setup-test ]] || exit 0
	echo "setup: adding what the tests need to $(VENV)"
	$(VENV)/bin/python -m pip install -qq --editable '.[bench,docs,test]'
	touch $(VENV)/setup-test

setup-bench: setup-test  ## and what the benchmarks need: Debian's packages to compare with
	$(FUNCTIONS)
	for peer in incron "inotify-tools libinotifytools0" python3-watchdog; do
	    unpack "build/peers/$${peer%% *}" $$peer ||
	        echo "setup: going on without $${peer%% *} to compare with" >&2
	done

docs: setup-test  ## bring the generated parts of the manual pages up to date
	$(VENV)/bin/python docs/generate.py

# PREFIX/lib/ovl-linkd/env leads to the program, an environment of its own. A new one is made beside
# it and takes its place by one rename(2): a daemon that runs goes on in the old one, which is
# removed by the first install or uninstall that finds nobody using it.
install:  ## put it on this machine; PREFIX=/usr/local DESTDIR=
	$(FUNCTIONS)
	$(INSTALLING)
	if [[ -z $$destdir ]] && (( EUID )); then
	    echo "install: only root can install below $$prefix; use sudo make install" >&2
	    exit 1
	fi
	at=$$destdir$$library
	if [[ ! -e $$at/manifest ]] && [[ -e $$at || -e $$destdir$$prefix/bin/ovl-linkd ]]; then
	    echo "install: $$at or ovl-linkd itself is there, but not by 'make install';" \
	        "remove that (a package?) first, or use another PREFIX" >&2
	    exit 1
	fi
	missing=()
	if [[ -z $$destdir ]]; then
	    has systemd.daemon || missing+=(python3-systemd)
	    command -v mount >/dev/null || missing+=(mount)
	    command -v systemd-tmpfiles >/dev/null || missing+=(systemd)
	fi
	need "$${missing[@]}"
	echo "install: building"
	build

	# What the program needs, moved out of the environment it was built in: no pip, no setuptools.
	packages=$$("$$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
	wanted=$${packages#"$$work/venv/"} python=$$(basename "$${packages%/*}")
	state=$$destdir$$library
	remember=$$work/directories
	touch "$$remember"
	mkdir -p "$$destdir/"
	[[ ! -e $$state/directories ]] || cp "$$state/directories" "$$remember"
	directory "$$library"
	new=$$(mktemp -d "$$state/env.XXXXXXXX")
	final=$${new#"$$destdir"}
	chmod 755 "$$new"
	mkdir -p "$$new/bin" "$$new/$$wanted"
	ln -s $(PYTHON) "$$new/bin/python"
	printf '%s\n' 'home = $(dir $(PYTHON))' 'include-system-site-packages = true' >"$$new/pyvenv.cfg"
	# program NAME MODULE: a command whose script() is MODULE's. After an upgrade of the distribution
	# it finds nothing: 78 is what keeps systemd from trying again and again.
	program() {
	    printf '%s\n' "#!$$final/bin/python -I" 'import sys' 'try:' "    from $$2 import script" \
	        'except ModuleNotFoundError as error:' '    if error.name != "ovl_linkd":' '        raise' \
	        "    print(\"$$1: it was installed for another Python ($$python): make install it again\"," \
	        '          file=sys.stderr)' '    sys.exit(78)' 'script()' >"$$new/bin/$$1"
	    chmod 755 "$$new/bin/$$1"
	}
	program ovl-linkd ovl_linkd.cli
	program ovl-linkd-runc ovl_linkd.oci_runtime.wrapper
	tar --create --directory="$$packages" --exclude=./pip --exclude='./pip-*' --exclude='./_distutils_hack' \
	    --exclude='./setuptools*' --exclude='./pkg_resources' --exclude='./distutils-precedence.pth' \
	    --exclude=__pycache__ . | tar --extract --no-same-owner --directory="$$new/$$wanted"
	rm -f "$$new/$$wanted"/ovl_linkd-*.dist-info/direct_url.json  # where it was built
	# mount.overlay runs it on whatever Python there is then: nothing here may know a minor version.
	mkdir "$$new/python"
	ln -s "../$$wanted/ovl_linkd" "$$new/python/ovl_linkd"
	# Compiled now: the service may not write there, and no start of a command has to do it.
	"$$new/bin/python" -I -m compileall -q -s "$$destdir" "$$new/lib"

	"$${pip[@]}" install "$$wheel[docs]"
	shared "$$work/venv/bin/python" "$$work/root" "$$library/env/python"
	mkdir -p "$$work/root$$prefix/bin"
	for name in ovl-linkd ovl-linkd-runc; do
	    ln -s "../lib/ovl-linkd/env/bin/$$name" "$$work/root$$prefix/bin/$$name"
	done

	! grep -qsxF "$$helper" "$$state/manifest" ||
	    install -D "$$work/root$$library/mount.overlay" "$$work/root$$helper"

	# From here on the machine changes. What is about to come is written down first, so that an
	# install that was interrupted can be taken away.
	(cd "$$work/root" && find . ! -type d -printf '/%P\n' | LC_ALL=C sort) >"$$work/manifest"
	touch "$$work/old"
	[[ ! -e $$state/manifest ]] || LC_ALL=C sort "$$state/manifest" >"$$work/old"
	LC_ALL=C sort -u "$$work/manifest" "$$work/old" >"$$state/manifest"
	switch() { ln -s "$$2" "$$1.new" && mv -T "$$1.new" "$$1"; }
	old=$$(readlink "$$state/env" || true)
	switch "$$state/env" "$${new##*/}"
	kept=$$new new=
	while IFS= read -r path; do
	    directory "$$(dirname "$$path")"
	    rm -f "$$destdir$$path.new"
	    cp -P --preserve=mode "$$work/root$$path" "$$destdir$$path.new"
	    mv -T "$$destdir$$path.new" "$$destdir$$path"
	done <"$$work/manifest"
	LC_ALL=C comm -13 "$$work/manifest" "$$work/old" | while IFS= read -r path; do
	    rm -f "$$destdir$$path"
	done
	cp "$$remember" "$$state/directories"
	cp "$$work/manifest" "$$state/manifest"
	for environment in "$$state"/env.*; do
	    [[ $$environment == "$$kept" ]] || in_use "$${environment#"$$destdir"}" || rm -rf "$$environment"
	done
	# A configuration may be there before its program, by an uninstall or another machine.
	[[ -n $$destdir || ! -d /etc/ovl-linkd ]] || "$$kept/bin/python" -I -m ovl_linkd tmpfiles --write || true
	tell_systemd
	echo "install: $$prefix/bin/ovl-linkd $$("$$kept/bin/python" -I -m ovl_linkd --version | cut -d' ' -f2)"
	if [[ -n $$old && -d $$state/$$old ]]; then
	    echo "install: what runs goes on with the version it has: systemctl restart ovl-linkd"
	elif [[ -z $$destdir && -z $$old && -d /run/systemd/system ]]; then
	    echo "install: systemctl enable --now ovl-linkd"
	fi

install-mount-helper:  ## have mount(8) hand overlays to mount.overlay, after 'make install'
	$(FUNCTIONS)
	$(INSTALLING)
	state=$$destdir$$library
	if [[ ! -e $$state/mount.overlay ]]; then
	    echo "install-mount-helper: first 'make install', with the same PREFIX and DESTDIR" >&2
	    exit 1
	fi
	if [[ -z $$destdir ]] && (( EUID )); then
	    echo "install-mount-helper: only root can do this; use sudo make install-mount-helper" >&2
	    exit 1
	fi
	if ! grep -qxF "$$helper" "$$state/manifest"; then
	    if [[ -e $$destdir$$helper || -L $$destdir$$helper ]]; then
	        echo "install-mount-helper: $$destdir$$helper is somebody else's; remove that first" >&2
	        exit 1
	    fi
	    echo "$$helper" >>"$$state/manifest"
	fi
	remember=$$state/directories
	directory "$${helper%/*}"
	install "$$state/mount.overlay" "$$destdir$$helper.new"
	mv -T "$$destdir$$helper.new" "$$destdir$$helper"
	echo "install-mount-helper: $$helper: mount(8), fstab and .mount units carry any overlay now"

uninstall:  ## take it off again; refused while something depends on it, unless FORCE=1
	$(FUNCTIONS)
	$(INSTALLING)
	state=$$destdir$$library
	if [[ ! -e $$state/manifest ]]; then
	    echo "uninstall: nothing was installed by 'make install' below $$destdir$$prefix"
	    exit 0
	fi
	if [[ -z $$destdir ]] && (( EUID )); then
	    echo "uninstall: only root can do this; use sudo make uninstall" >&2
	    exit 1
	fi
	ask=("$$state/env/bin/python" -I -m ovl_linkd.dependents --root "$${destdir:-/}")
	outcome=0
	[[ -n '$(FORCE)' ]] || said=$$("$${ask[@]}" 2>&1) || outcome=$$?
	if (( outcome )); then
	    if (( outcome == 3 )); then
	        echo "uninstall: this still depends on ovl-linkd:" >&2
	    else
	        echo "uninstall: can't tell what depends on ovl-linkd; if the Python that it was" \
	            "installed for is gone, first 'make install' it again:" >&2
	        said=$${said##*$$'\n'}
	    fi
	    echo "$$said" | sed 's/^/  /' >&2
	    echo "uninstall: 'make uninstall FORCE=1' takes ovl-linkd away in spite of it" >&2
	    exit 1
	fi
	units=(ovl-linkd.socket ovl-linkd.service ovl-linkd-links.service ovl-linkd-guard.service)
	if [[ -z $$destdir && -d /run/systemd/system ]]; then
	    systemctl --quiet disable --now "$${units[@]}" || true
	elif command -v systemctl >/dev/null; then
	    systemctl --quiet --root="$${destdir:-/}" disable "$${units[@]}" 2>/dev/null || true
	fi
	# A directory that is append-only would be there for good, and nobody would know why.
	[[ -n $$destdir ]] || "$$state/env/bin/ovl-linkd" guard --off >/dev/null || true
	# Who was overridden by FORCE keeps its links.
	[[ -n '$(FORCE)' ]] || "$${ask[@]}" --remove-links
	drop_ins=$$destdir/etc/systemd/system/ovl-linkd.service.d
	for file in "$$destdir/etc/tmpfiles.d/ovl-linkd.conf" "$$drop_ins/ovl-linkd.conf"; do
	    if [[ -f $$file && $$(head -n 1 "$$file") == '# Written by ovl-linkd '* ]]; then rm "$$file"; fi
	done
	rmdir --ignore-fail-on-non-empty "$$drop_ins" 2>/dev/null || true
	rm -rf "$$destdir/var/lib/ovl-linkd-guard"
	run=$$destdir/run/ovl-linkd
	if [[ -d $$run ]]; then
	    find "$$run" -mindepth 1 -maxdepth 1 ! -name 'config.yaml*' -exec rm -rf {} +
	    rmdir --ignore-fail-on-non-empty "$$run"
	fi
	# Made by the unit, and empty unless somebody else uses them.
	for name in tmpfiles.d sysctl.d modprobe.d depmod.d modules-load.d binfmt.d sysusers.d extensions confexts; do
	    rmdir "$$destdir/run/$$name" 2>/dev/null || true
	done
	while IFS= read -r path; do rm -f "$$destdir$$path"; done <"$$state/manifest"
	directories=$$(LC_ALL=C sort -r "$$state/directories")
	rm -rf "$$state"/env "$$state"/env.* "$$state/directories" "$$state/manifest"
	while IFS= read -r path; do
	    [[ -z $$path ]] || rmdir --ignore-fail-on-non-empty "$$destdir$$path" 2>/dev/null || true
	done <<<"$$directories"
	tell_systemd
	for path in "$$destdir/etc/ovl-linkd" "$$destdir/run/ovl-linkd"; do
	    [[ ! -e $$path ]] || echo "uninstall: $$path is yours and stays"
	done

# Debian's libraries where Debian has them, the others, pure Python, beside the program; and nothing
# that knows a minor version of Python, so that an upgrade of the distribution leaves it working.
deb: override PREFIX := /usr
deb: override DESTDIR :=
deb:  ## a Debian package for 12 and 13, in build/
	$(FUNCTIONS)
	$(INSTALLING)
	top=$$PWD
	build
	root=$$work/root
	mkdir -p "$$root$$library" "$$root/DEBIAN"
	"$${pip[@]}" install --no-deps --no-compile --target "$$root$$library" \
	    "$$wheel" asyncvarlink inotify-simple
	if [[ -n $$(find "$$root$$library" -name '*.so' -print -quit) ]]; then
	    echo "deb: a library is not pure Python any more" >&2
	    exit 1
	fi
	rm -rf "$$root$$library"/*.dist-info "$$root$$library/bin"
	"$${pip[@]}" install "$$wheel[docs]"
	shared "$$work/venv/bin/python" "$$root" "$$library"

	share=$$root/usr/share doc=$$root/usr/share/doc/ovl-linkd debian=systemd/debian
	version=$$("$$work/venv/bin/python" -I -m ovl_linkd --version | cut -d' ' -f2)
	stamp=$${SOURCE_DATE_EPOCH:-$$(git -C "$$top" log -1 --format=%ct 2>/dev/null || date +%s)}
	# Whoever publishes the package is who gets its bug reports.
	maintainer="$${DEBFULLNAME:-The ovl-linkd authors} <$${DEBEMAIL:-ovl-linkd@example.org}>"
	install -D "$$debian/launcher" "$$root/usr/bin/ovl-linkd"
	sed 's/ovl_linkd[.]cli/ovl_linkd.oci_runtime.wrapper/' "$$debian/launcher" >"$$root/usr/bin/ovl-linkd-runc"
	chmod 755 "$$root/usr/bin/ovl-linkd-runc"
	install -D "$$debian/rtupdate" "$$share/python3/runtime.d/ovl-linkd.rtupdate"
	mkdir "$$share/zsh/vendor-completions"
	mv "$$share/zsh/site-functions/_ovl-linkd" "$$share/zsh/vendor-completions/"
	rmdir "$$share/zsh/site-functions"
	rm "$$doc/LICENSE"
	install -m 644 "$$debian/copyright" "$$doc/copyright"
	printf '%s\n' "ovl-linkd ($$version) unstable; urgency=medium" '' \
	    '  * What changed is in CHANGELOG.md.' '' \
	    " -- $$maintainer  $$(LC_ALL=C date -u -R -d "@$$stamp")" >"$$doc/changelog"
	gzip -9n "$$doc/changelog" "$$doc/CHANGELOG.md" "$$share"/man/man?/*

	install -t "$$root/DEBIAN" "$$debian"/{postinst,prerm,postrm}
	size=$$(du -k -s --apparent-size --exclude=DEBIAN "$$root" | cut -f1)
	sed "s/@VERSION@/$$version/; s/@MAINTAINER@/$$maintainer/; s/@SIZE@/$$size/" \
	    "$$debian/control" >"$$root/DEBIAN/control"
	chmod -R u=rwX,go=rX "$$root"
	(cd "$$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | LC_ALL=C sort -z |
	    xargs -0 md5sum >DEBIAN/md5sums)
	chmod 644 "$$root/DEBIAN/md5sums"
	find "$$root" -exec touch --no-dereference --date="@$$stamp" {} +
	mkdir -p "$$top/build"
	SOURCE_DATE_EPOCH=$$stamp dpkg-deb --root-owner-group -Zxz --build "$$root" \
	    "$$top/build/ovl-linkd_$${version}_all.deb" >/dev/null
	echo "deb: build/ovl-linkd_$${version}_all.deb"

demo: setup  ## the whole story on real overlay mounts; leaves nothing behind
	$(FUNCTIONS)
	as_root $(VENV)/bin/ovl-linkd demo

test: setup-test  ## every test, as root, in a mount namespace of their own; CI=true: a skip fails
	$(FUNCTIONS)
	as_root $(VENV)/bin/python -m pytest --durations=5 $(ARGS)

lint: setup-test  ## only the tests of the source itself: ruff, mypy, import directions
	$(VENV)/bin/python -m pytest -q tests/test_house.py $(ARGS)

bench: setup-bench  ## everything measured side by side; docs/benchmarks.md is made of it
	$(FUNCTIONS)
	# Only what measures is root: the figures and the page belong to the owner of the checkout.
	mkdir -p build
	touch build/bench.json
	code=0
	as_root $(VENV)/bin/python -m tests.bench $(ARGS) || code=$$?
	(( code > 2 )) || $(VENV)/bin/python -m tests.bench.page
	exit $$code

soak: setup-test  ## faults and properties in their long form; says what runs and how long it takes
	$(FUNCTIONS)
	echo "soak: 1. faults, 60 minutes: a death at every system call; every call met by every error, once"
	echo "      and for a while; 700 random histories; fights, races and floods of a minute; ten million"
	echo "      hostile texts (25 of the minutes)"
	as_root env SOAK=true $(VENV)/bin/python -m pytest --durations=0 tests/faults $(ARGS)
	echo "soak: 2. the property tests with 10,000 examples each, 10 minutes"
	as_root $(VENV)/bin/python -m pytest -m hypothesis --hypothesis-profile=soak $(ARGS)
	echo "soak: 3. mounts by every way in while cleaners run, $(SOAK_SECONDS) s"
	as_root $(VENV)/bin/python -m tests.endurance --seconds $(SOAK_SECONDS)
	echo "soak: 4. the Debian package before lintian, and through an upgrade from 12 to 13, 5 minutes"
	as_root $(VENV)/bin/python -m pytest --durations=0 tests/soak_deb.py
