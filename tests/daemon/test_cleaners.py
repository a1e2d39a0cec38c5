"""The programs that clear /run and /tmp in earnest, and the link that is back after each."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.daemon.world import Daemon

pytestmark = pytest.mark.needs("root")

_OLD = 30 * 24 * 3600


@pytest.fixture
def kept(daemon: Daemon, scratch: Path) -> Daemon:
    """Keeps `scratch`/tmp/link."""
    (scratch / "t").mkdir()
    (scratch / "tmp").mkdir()
    daemon.write({"one": (scratch / "tmp/link", scratch / "t")})
    daemon.start()
    return daemon


def _clean(daemon: Daemon, path: Path, *words: str | Path) -> None:
    """Run a cleaner when PATH is 30 days old, as by `touch -h -d '30 days ago'`.

    The daemon is stopped meanwhile: its look at the link is an access, which makes it young again.
    """
    with daemon.frozen():
        then = os.lstat(path).st_mtime - _OLD
        os.utime(path, (then, then), follow_symlinks=False)
        subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)


@pytest.mark.needs("systemd-tmpfiles")
def test_systemd_tmpfiles_removes_it_and_it_is_back(kept: Daemon, scratch: Path) -> None:
    rules = scratch / "rules.conf"
    rules.write_text(f"d {scratch}/tmp - - - am:10d\n")
    with kept.repairing("one", "missing"):
        _clean(kept, scratch / "tmp/link", "systemd-tmpfiles", "--clean", rules)


@pytest.mark.needs("systemd-tmpfiles")
def test_systemd_tmpfiles_leaves_what_it_knows(kept: Daemon, scratch: Path) -> None:
    """Any line of its own for the path keeps it from being aged: how the two live together."""
    rules = scratch / "rules.conf"
    rules.write_text(f"d {scratch}/tmp - - - am:10d\nL {scratch}/tmp/link - - - - {scratch}/t\n")
    _clean(kept, scratch / "tmp/link", "systemd-tmpfiles", "--clean", rules)
    assert kept.link("one")["repairs"] == 1


@pytest.mark.needs("systemd-tmpfiles")
def test_systemd_tmpfiles_removes_all_that_is_in_there(kept: Daemon, scratch: Path) -> None:
    rules = scratch / "rules.conf"
    rules.write_text(f"R {scratch}/tmp\n")
    with kept.repairing("one", "missing"):
        _clean(kept, scratch / "tmp/link", "systemd-tmpfiles", "--remove", rules)


@pytest.mark.needs("tmpreaper")
def test_tmpreaper_removes_it_and_it_is_back(kept: Daemon, scratch: Path) -> None:
    with kept.repairing("one", "missing"):
        _clean(kept, scratch / "tmp/link", "tmpreaper", "--symlinks", "1d", scratch / "tmp")


@pytest.mark.needs("find")
def test_find_delete_removes_it_and_it_is_back(kept: Daemon, scratch: Path) -> None:
    """What most cron jobs are made of."""
    with kept.repairing("one", "missing"):
        _clean(
            kept,
            scratch / "tmp/link",
            "find",
            scratch / "tmp",
            "-mindepth",
            "1",
            "-mtime",
            "+10",
            "-delete",
        )
