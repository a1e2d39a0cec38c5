#!/bin/bash
# suite.sh SUITE[/ARCHITECTURE] DIRECTORY [--closure | --kernel] PACKAGE...: makes DIRECTORY of what
# these packages of another Debian hold: without what they need; with --closure, with all of it; with
# --kernel the parts of the kernel that PACKAGE stands for. The machine's own apt learns nothing of it.
set -euo pipefail
cd "${BASH_SOURCE%/*}/.."
. tests/packages.sh

suite=${1%/*} architecture=$(dpkg --print-architecture) directory=$2
[[ $1 != */* ]] || architecture=${1#*/}
shift 2
[[ ! -e $directory ]] || exit 0
echo "setup: unpacking $* of Debian $suite"
mirror=$(mirror)
apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt"/{lists/partial,cache/archives/partial,debs} "${directory%/*}"
touch "$apt/status"
signed=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$signed] $mirror $suite main" >"$apt/sources.list"
cat >"$apt/apt.conf" <<END
#clear APT::Architectures;
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
Dir::State "$apt";
Dir::State::Lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "-";
APT::Sandbox::User "root";
END
export APT_CONFIG=$apt/apt.conf
apt-get -qq update

# parts PACKAGE: what it needs that belongs to one kernel.
parts() { apt-cache depends "$1" | sed -n 's/^ *\(Pre\)\?Depends: \(linux-[^ ]*-[0-9][^ ]*\)$/\2/p'; }
# shellcheck disable=SC2046  # packages are words
case $1 in
--closure)
    set -- $(apt-get -qq --simulate --no-install-recommends install "${@:2}" | sed -n 's/^Inst \([^ ]*\).*/\1/p')
    ;;
--kernel)
    set -- $(parts "$2")
    set -- "$@" $(parts "$1")
    ;;
esac
(cd "$apt/debs" && apt-get -qq download "$@")
extract "$apt/debs" "$directory"
for name in bin lib sbin; do
    rmdir "$directory/$name" 2>/dev/null || true  # empty in base-files
    [[ -e $directory/$name ]] || ln -s "usr/$name" "$directory/$name"
done
