"""What may happen to links from outside, and what must be so afterwards: events and an oracle.

The oracle is the table "What keeping means", read off the disk alone; it shares nothing with the
product.
"""

import itertools
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ovl_linkd.links.link import Link
from tests.daemon.world import RENAME_EXCHANGE, mount, renameat2, umount
from tests.others import NOBODY

_MS_RDONLY, _MS_REMOUNT = 1, 32  # linux/mount.h

_number = itertools.count(1)

# Two links on one way, one by a symlink on the way; targets that share an ancestor.
PATHS = {"one": "a/b/one", "two": "a/two", "three": "way/b/three"}
TARGETS = ("t", "t/u")


class Disk:
    """The directories a/b and t/u, a symlink `way` to a; each event is a method.

    An event that is not possible, because others came before it, does nothing.
    """

    def __init__(self, where: str = "/run") -> None:
        self.top = Path(f"{where}/model{next(_number)}")
        for name in ("a/b", "t/u", "away", "precious"):
            (self.top / name).mkdir(parents=True)
        (self.top / "way").symlink_to("a")
        self._numbers = itertools.count()

    def remove(self) -> None:
        """Take it all away."""
        while self._mount_points():
            self.umount()
        shutil.rmtree(self.top)

    def link(self, name: str, target: str) -> Link:
        """The wanted link NAME to the directory TARGET here."""
        return Link(name, str(self.top / PATHS[name]), str(self.top / target))

    # -- events -------------------------------------------------------------------------------

    def removed(self, name: str) -> None:
        """A symlink is removed."""
        if self._at(name).is_symlink():
            self._at(name).unlink()

    def moved_away(self, name: str) -> None:
        """Whatever is there is moved away."""
        self._at(name).rename(self._fresh())

    def put(self, name: str, kind: str) -> None:
        """Something else is put in the place of a symlink, or of nothing, bit by bit."""
        self.removed(name)
        self._make(kind, self._at(name))

    def moved_over(self, name: str, kind: str) -> None:
        """Something is moved over it as one: MOVED_TO, and nothing else."""
        new = self._at(name).parent / "new"
        self._make(kind, new)
        try:
            if self._at(name).is_symlink():
                new.rename(self._at(name))
        finally:
            if os.path.lexists(new):
                new.rename(self._fresh())

    def exchanged(self, name: str, kind: str) -> None:
        """Something changes places with it."""
        new = self._at(name).parent / "new"
        self._make(kind, new)
        try:
            renameat2(new, self._at(name), RENAME_EXCHANGE)
        finally:
            new.rename(self._fresh())

    def cleaned(self, directory: str) -> None:
        """A cleaner removes every symlink below."""
        for where, _, names in os.walk(self.top / directory):
            for name in names:
                path = Path(where, name)
                if path.is_symlink():
                    path.unlink()

    def directory_removed(self, directory: str) -> None:
        """And all that is in it."""
        shutil.rmtree(self.top / directory, ignore_errors=True)

    def directory_made(self, directory: str) -> None:
        """With its parents."""
        (self.top / directory).mkdir(parents=True, exist_ok=True)

    def directory_renamed_away(self, directory: str) -> None:
        """Its watch goes with it."""
        (self.top / directory).rename(self.top / "away" / directory.replace("/", "-"))

    def directory_renamed_back(self, directory: str) -> None:
        """Or exchanged, if there is another one by now."""
        away = self.top / "away" / directory.replace("/", "-")
        if (self.top / directory).exists():
            renameat2(away, self.top / directory, RENAME_EXCHANGE)
        else:
            away.rename(self.top / directory)

    def directory_replaced(self, directory: str, kind: str) -> None:
        """By something that is none."""
        (self.top / directory).rename(self._fresh())
        self._make(kind, self.top / directory)

    def obstacle_removed(self, directory: str) -> None:
        """What is no directory where one belongs."""
        path = self.top / directory
        if path.is_symlink() or not path.is_dir():
            path.rename(self._fresh())

    def touched(self, name: str, uid: int) -> None:
        """touch -h and chown -h: a symlink says what it said."""
        if self._at(name).is_symlink():
            os.utime(self._at(name), (0, 0), follow_symlinks=False)
            os.chown(self._at(name), uid, uid, follow_symlinks=False)

    def mounted_over(self, directory: str, room: str) -> None:
        """No event of inotify tells. ROOM: how many files there may be, its root among them."""
        mount("model", self.top / directory, "tmpfs", 0, f"mode=0755,nr_inodes={room}")

    def made_read_only(self, read_only: bool) -> None:
        """The last mount is, as after an error of its disk, or is not any more."""
        if points := self._mount_points():
            flags = _MS_REMOUNT | (_MS_RDONLY if read_only else 0)
            mount("model", points[-1], "tmpfs", flags)

    def umount(self) -> None:
        """The last mount is taken off; it would be busy if anybody held a descriptor in there."""
        if points := self._mount_points():
            umount(points[-1])

    def given_away(self, directory: str, uid: int) -> None:
        """chown."""
        os.chown(self.top / directory, uid, 0)

    def opened(self, directory: str, mode: int) -> None:
        """chmod."""
        (self.top / directory).chmod(mode)

    def way_led_elsewhere(self, to: str) -> None:
        """A symlink on the way of a link is replaced, as one."""
        new = self.top / "way.new"  # not in `away`, over which something may be mounted
        new.symlink_to(to)
        new.rename(self.top / "way")

    def make_acceptable(self) -> None:
        """Undo what a configuration is refused for: directories of others, a link in its target."""
        for directory in ("a", "a/b", "t", "t/u"):
            self.happen(Disk.given_away, directory, 0)
            self.happen(Disk.opened, directory, 0o755)
        self.way_led_elsewhere("a")

    # -- helpers ------------------------------------------------------------------------------

    def _at(self, name: str) -> Path:
        return self.top / PATHS[name]

    def _fresh(self) -> Path:
        return self.top / "away" / str(next(self._numbers))

    def _make(self, kind: str, path: Path) -> None:
        """Put something at PATH, where nothing is."""
        if kind == "file":
            path.touch(exist_ok=False)
            self._remember(path)
        elif kind == "directory":
            path.mkdir()
            (path / "file").touch()
            self._remember(path / "file")
        elif kind == "symlink":
            path.symlink_to("/elsewhere")
        else:
            path.symlink_to(self.top / "away")

    def _remember(self, path: Path) -> None:
        """Tell by a second name whether the file at PATH is still somewhere."""
        with suppress(OSError):  # on another file system
            os.link(path, self.top / "precious" / str(next(self._numbers)))

    def _mount_points(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        points = [line.split()[4] for line in lines]
        return [point for point in points if point.startswith(f"{self.top}/")]

    def destroyed(self) -> int:
        """How many precious files have no other name any more."""
        return sum(entry.stat().st_nlink < 2 for entry in os.scandir(self.top / "precious"))

    def forget_destroyed(self) -> None:
        """What an event itself destroyed is nobody's fault."""
        for entry in os.scandir(self.top / "precious"):
            if entry.stat().st_nlink < 2:
                os.unlink(entry)

    def happen(self, event: Callable[..., None], *arguments: Any) -> None:
        """Let EVENT happen, if it can."""
        with suppress(OSError):
            event(self, *arguments)
        self.forget_destroyed()

    # -- the oracle ---------------------------------------------------------------------------

    def faults(self, link: Link, state: str, ours: bool = True) -> list[str]:
        """What of LINK, of which STATE is said, contradicts the table.

        OURS: whether a foreign symlink is replaced, since it took the place of ours.
        """
        found, parent = _found(link.path), os.path.dirname(link.path)
        if self.right(link):
            wanted = {"ok" if os.path.isdir(link.target) else "dangling"}
        elif (
            not trusted(link.path)
            or found[0] == "something else"
            or (found[0] == "symlink" and not ours)
        ):
            wanted = {"blocked"}
        elif found[0] == "no parent" and not _makeable(parent):
            wanted = {"waiting"}
        elif not _has_room(parent if found[0] != "no parent" else os.path.dirname(parent)):
            wanted = {"failing"}
        elif found[0] == "no way":
            wanted = {"failing", "waiting"}
        else:
            wanted = {"what is put right"}
        if state in wanted:
            return []
        return [f"{link.path}: {state}, not {' or '.join(sorted(wanted))}; there is {found}"]

    def right(self, link: Link) -> bool:
        """Whether LINK is as wanted."""
        return _found(link.path) == ("symlink", link.target)

    def left_behind(self) -> list[str]:
        """Temporary names."""
        return [
            os.path.join(where, name)
            for where, directories, names in os.walk(self.top)
            for name in (*directories, *names)
            if name.endswith(".ovl-linkd")
        ]


def _found(path: str) -> tuple[str, str]:
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        parent = os.path.isdir(os.path.dirname(path))
        return ("nothing", "") if parent else ("no parent", "")
    except OSError:
        return "no way", ""
    if stat.S_ISLNK(status.st_mode):
        return "symlink", os.readlink(path)
    return "something else", ""


def _has_room(directory: str) -> bool:
    """Whether anything can be made in DIRECTORY."""
    try:
        room = os.statvfs(directory)
    except OSError:
        return True
    return not room.f_flag & os.ST_RDONLY and (room.f_files == 0 or room.f_ffree > 0)


def _makeable(directory: str) -> bool:
    """Whether nothing is at DIRECTORY, and its parent is there: root's own, and to be written."""
    parent = os.path.isdir(os.path.dirname(directory))
    return parent and not os.path.lexists(directory) and trusted(directory)


def trusted(path: str) -> bool:
    """Whether nobody but root decides what lies at PATH, as far as the way there exists."""
    here, pending = "/", [name for name in path.split("/") if name][::-1]
    for _ in range(1000):
        status = os.lstat(here)
        if status.st_uid != 0 or status.st_mode & stat.S_IWOTH:
            return False
        name = pending.pop()
        if not pending:
            return True
        following = os.path.join(here, name)
        if not os.path.lexists(following):
            return True
        if os.path.islink(following):
            text = os.readlink(following)
            here = "/" if text.startswith("/") else here
            pending += [name for name in text.split("/") if name][::-1]
        elif os.path.isdir(following):
            here = following
        else:
            return True
    return True  # a loop


_NAMES = st.sampled_from(sorted(PATHS))
_DIRECTORIES = st.sampled_from(["a", "a/b", "t", "t/u"])
_KINDS = st.sampled_from(["file", "directory", "symlink", "way"])

EVENTS: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    *(st.tuples(st.just(event), _NAMES) for event in (Disk.removed, Disk.moved_away)),
    *(
        st.tuples(st.just(event), _NAMES, _KINDS)
        for event in (Disk.put, Disk.moved_over, Disk.exchanged)
    ),
    *(
        st.tuples(st.just(event), _DIRECTORIES)
        for event in (
            Disk.cleaned, Disk.directory_removed, Disk.directory_made, Disk.directory_renamed_away,
            Disk.directory_renamed_back, Disk.obstacle_removed,
        )
    ),
    st.tuples(st.just(Disk.directory_replaced), _DIRECTORIES, _KINDS),
    st.tuples(st.just(Disk.touched), _NAMES, st.sampled_from([0, NOBODY])),
    st.tuples(st.just(Disk.mounted_over), _DIRECTORIES, st.sampled_from("0123")),
    st.tuples(st.just(Disk.umount)),
    st.tuples(st.just(Disk.made_read_only), st.booleans()),
    st.tuples(st.just(Disk.given_away), _DIRECTORIES, st.sampled_from([0, NOBODY])),
    st.tuples(st.just(Disk.opened), _DIRECTORIES, st.sampled_from([0o755, 0o777, 0o1777])),
    st.tuples(st.just(Disk.way_led_elsewhere), st.sampled_from(["a", "t", "nowhere", "way"])),
)  # fmt: skip
BURSTS = st.lists(EVENTS, min_size=1, max_size=5)
CONFIGURATIONS = st.dictionaries(_NAMES, st.sampled_from(TARGETS), min_size=1)
