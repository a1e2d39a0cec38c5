#!/bin/bash
# suite.sh SUITE DIRECTORY PACKAGE...: makes DIRECTORY of what these packages of another Debian hold,
# without what they need. The machine's own apt learns nothing of it.
set -euo pipefail
cd "${BASH_SOURCE%/*}/.."
. tests/packages.sh

suite=$1 directory=$2
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
(cd "$apt/debs" && apt-get -qq download "$@")
extract "$apt/debs" "$directory"
