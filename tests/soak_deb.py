"""The Debian package before lintian and through a whole upgrade of the system: by `make soak` only.

It takes a mirror of Debian, and some minutes. tests/system/test_deb.py has the short form.
"""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.userland import Userland

pytestmark = pytest.mark.needs("root")

QUIET = {"DEBIAN_FRONTEND": "noninteractive"}


def apt(system: Userland, *words: str) -> None:
    words = ("apt-get", "-qq", "-y", "-o", "Dpkg::Use-Pty=0", *words)
    system.run(*words, environment=QUIET, timeout=1200)


def online(lower: Path, place: Path) -> Userland:
    """The system below LOWER, with this machine's way to its mirror."""
    place.mkdir()
    system = Userland(lower, place)
    shutil.copy("/etc/resolv.conf", system.path("/etc/resolv.conf"))
    return system


def test_lintian_finds_neither_an_error_nor_a_warning(
    debian13: Path, package: Path, scratch: Path
) -> None:
    system = online(debian13, scratch / "system")
    apt(system, "update")
    apt(system, "install", "--no-install-recommends", "lintian")
    file = shutil.copy(package, scratch)
    system.run("lintian", "--info", "--fail-on", "error,warning", file, timeout=300)


def test_an_upgrade_from_debian_12_to_13_leaves_it_working(
    debian12: Path, package: Path, scratch: Path
) -> None:
    """Python 3.11 is gone after it, whatever was made for it with it."""
    system = online(debian12, scratch / "system")
    apt(system, "install", str(shutil.copy(package, scratch)))
    system.run("ln", "-s", "/usr/lib/ovl-linkd/mount.overlay", "/usr/sbin/")
    sources = system.path("/etc/apt/sources.list")
    sources.write_text(re.sub(r"\bbookworm\b", "trixie", sources.read_text()))
    apt(system, "update")
    apt(system, "-o", "Dpkg::Options::=--force-confdef", "full-upgrade")
    # By name: what autoremove would take depends on what made the system.
    apt(system, "purge", "python3.11*", "libpython3.11*")

    assert "Python 3.13" in system.run("python3", "--version").stdout
    assert system.run("sh", "-c", "command -v python3.11", code=127).stdout == ""
    system.run("ovl-linkd", "check")
    system.run("dpkg", "--verify", "ovl-linkd")
    compiled = os.listdir(system.path("/usr/lib/ovl-linkd/ovl_linkd/__pycache__"))
    assert {re.sub(r".*\.(cpython-\d+)\.pyc", r"\1", name) for name in compiled} == {"cpython-313"}
    layers = [scratch / ("x" * 60) / str(number) / "fs" for number in range(127)]
    for layer in layers:
        layer.mkdir(parents=True)
    (layers[-1] / "lowest").touch()
    options = "lowerdir=" + ":".join(map(str, layers))
    system.run("mount", "-t", "overlay", "-o", options, "many", "/mnt")
    assert os.listdir(system.path("/mnt")) == ["lowest"]
