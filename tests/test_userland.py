"""The Debian 13 that other tests lean on: it is one, and what happens in it stays in it."""

from pathlib import Path

import pytest

from tests.userland import DEBIAN_13, TOP, Userland

pytestmark = pytest.mark.needs("root")


def test_its_programs_are_newer_than_debian_12s(userland: Userland) -> None:
    assert userland.path("/etc/debian_version").read_text().startswith("13")
    assert "util-linux 2.41" in userland.run("mount", "--version").stdout
    assert "Python 3.13" in userland.run("python3", "--version").stdout
    assert userland.run("varlinkctl", "--version").stdout.startswith("systemd 257")


def test_the_checkout_and_run_are_where_they_are_outside(userland: Userland, scratch: Path) -> None:
    (scratch / "here").write_text("from outside\n")
    assert userland.run("cat", scratch / "here").stdout == "from outside\n"
    source = f"import sys; sys.path.insert(0, {str(TOP / 'daemon')!r}); import ovl_linkd.api"
    userland.run("/usr/bin/python3", "-IBS", "-c", source)


def test_a_mount_made_in_it_is_seen_in_it(userland: Userland, scratch: Path) -> None:
    """Overlay mounts as well, although it lies on one: no layer of theirs does."""
    for name in ("a", "b", "on"):
        (scratch / name).mkdir()
    (scratch / "b/file").touch()
    layers = f"lowerdir={scratch}/a:{scratch}/b"
    userland.run("mount", "-t", "overlay", "-o", layers, "-", scratch / "on")
    assert userland.path(scratch / "on/file").exists()
    assert not (scratch / "on/file").exists()


def test_what_is_written_goes_to_a_layer_that_is_thrown_away(userland: Userland) -> None:
    userland.run("touch", "/etc/written")
    assert userland.path("/etc/written").exists()
    assert not (DEBIAN_13 / "etc/written").exists()
