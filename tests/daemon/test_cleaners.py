"""The programs that clear /run and /tmp in earnest: what they remove is back after each, and what
keeps a link from them keeps it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.world import Daemon

pytestmark = pytest.mark.needs("root", "systemd-tmpfiles", "tmpreaper", "faketime", "find")

_OLD = 30 * 24 * 3600
_TMPWATCH = (sys.executable, "-I", str(Path(__file__).with_name("tmpwatch.py")))
#: For what looks at the time of the last change, which nobody can set back.
_LATER = ("env", "NO_FAKE_STAT=1", "faketime", "+30 days")

# Lines of tmpfiles.d(5) and the option with which they are carried out, or a command; {d} is the
# directory, {l} the link, {t} its target. What most cron jobs are made of is the last row.
REMOVES = {
    "d am:10d": ("--clean", "d {d} - - - am:10d"),
    "d m:10d": ("--clean", "d {d} - - - m:10d"),
    "d a:10d": ("--clean", "d {d} - - - a:10d"),
    "D am:10d": ("--clean", "D {d} - - - am:10d"),
    "e am:10d": ("--clean", "e {d} - - - am:10d"),
    "v am:10d": ("--clean", "v {d} - - - am:10d"),
    "q am:10d": ("--clean", "q {d} - - - am:10d"),
    "d 10d, later": ("later --clean", "d {d} - - - 10d"),
    "r": ("--remove", "r {l}"),
    "r glob": ("--remove", "r {d}/l*"),
    "R": ("--remove", "R {l}"),
    "R directory": ("--remove", "R {d}"),
    "D": ("--remove", "D {d}"),
    "tmpreaper -s": ("tmpreaper", "--symlinks", "1d", "{d}"),
    "tmpreaper -s -m": ("tmpreaper", "--symlinks", "--mtime", "1d", "{d}"),
    "tmpreaper -s -a": ("tmpreaper", "--symlinks", "--all", "1d", "{d}"),
    "tmpwatch": (*_TMPWATCH, "24", "{d}"),
    "tmpwatch -um": (*_TMPWATCH, "-um", "24", "{d}"),
    "tmpwatch -c, later": (*_LATER, *_TMPWATCH, "-c", "24", "{d}"),
    "find -delete": ("find", "{d}", "-mindepth", "1", "-mtime", "+10", "-delete"),
}
KEEPS = {
    "no age": ("--clean", "d {d} - - - -"),
    "d 10d": ("--clean", "d {d} - - - 10d"),  # its last change is not so long ago
    "x": ("--clean", "d {d} - - - am:10d\nx {l}"),
    "X": ("--clean", "d {d} - - - am:10d\nX {l}"),
    # How the two live together: what `ovl-linkd tmpfiles` writes.
    "L": ("--clean", "d {d} - - - am:10d\nL {l} - - - - {t}"),
    "L, later": ("later --clean", "d {d} - - - 10d\nL {l} - - - - {t}"),
    "tmpreaper": ("tmpreaper", "1d", "{d}"),
    "tmpreaper --protect": ("tmpreaper", "--symlinks", "--protect", "{l}", "1d", "{d}"),
    "tmpwatch -l": (*_TMPWATCH, "--nosymlinks", "24", "{d}"),
    "tmpwatch -x": (*_TMPWATCH, "-x", "{l}", "24", "{d}"),
    "tmpwatch -c": (*_TMPWATCH, "-c", "24", "{d}"),
}


@pytest.fixture(scope="module")
def kept(shared: Callable[[], Daemon]) -> Daemon:
    """Keeps a link in a directory like /run, and one in a directory like /tmp."""
    daemon = shared()
    top = daemon.directory
    for name, mode in (("t", 0o755), ("run", 0o755), ("tmp", 0o1777)):
        (top / name).mkdir()
        (top / name).chmod(mode)
    daemon.write({name: (top / name / "link", top / "t") for name in ("run", "tmp")})
    whole = json.loads(daemon.config.read_text())
    whole["links"]["tmp"]["allow-unsafe-parent"] = True
    daemon.write_raw(json.dumps(whole))
    daemon.start(python=[sys.executable])
    return daemon


def clean(daemon: Daemon, where: str, row: tuple[str, ...]) -> bool:
    """Run a cleaner over a link that is 30 days old; whether it removed it.

    The daemon is stopped meanwhile: its look at the link is an access, which makes it young again.
    """
    directory = daemon.directory / where
    link = directory / "link"
    places = {"d": str(directory), "l": str(link), "t": str(daemon.directory / "t")}
    words = [word.format(**places) for word in row]
    if words[0].endswith(("--clean", "--remove")):
        rules = daemon.directory / "rules.conf"
        rules.write_text(f"{words[1]}\n")
        later, option = words[0].startswith("later"), words[0].split()[-1]
        words = [*(_LATER if later else ()), "systemd-tmpfiles", option, str(rules)]
    with daemon.frozen():
        then = os.lstat(link).st_mtime - _OLD
        os.utime(link, (then, then), follow_symlinks=False)
        before = os.lstat(link).st_ino
        subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        removed = not os.path.lexists(link)
        assert removed or os.lstat(link).st_ino == before
    return removed


@pytest.mark.parametrize("where", ["run", "tmp"])
@pytest.mark.parametrize("row", REMOVES.values(), ids=REMOVES)
def test_what_a_cleaner_removes_is_back(kept: Daemon, where: str, row: tuple[str, ...]) -> None:
    with kept.repairing(where):
        assert clean(kept, where, row), "it removes it no more: the row says nothing now"
    assert (kept.directory / "t").is_dir(), "through a symlink nothing is removed"


@pytest.mark.parametrize("where", ["run", "tmp"])
@pytest.mark.parametrize("row", KEEPS.values(), ids=KEEPS)
def test_what_is_kept_from_a_cleaner_stays(kept: Daemon, where: str, row: tuple[str, ...]) -> None:
    assert not clean(kept, where, row)
