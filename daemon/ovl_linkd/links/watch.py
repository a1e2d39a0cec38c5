"""inotify and the mount table, turned into "look again at these".

An event says no more than that: whatever happened, the way is walked again and the disk decides.
inotify(7) watches an inode, not a path: a renamed grandparent or a mount over a directory makes no
event on the directory itself. So every directory on the way is watched for the next name on it,
and the mount table is polled (proc_pid_mountinfo(5)) for what inotify never tells.
"""

import ctypes
import errno
import os
import select
from collections.abc import Collection, Iterable
from functools import partial

import inotify_simple
from inotify_simple import INotify, flags, parse_events

from ovl_linkd.links.walk import walk

_NAMES = int(
    flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO | flags.ATTRIB | flags.ONLYDIR
)
_ITSELF = int(flags.DELETE_SELF | flags.MOVE_SELF)
_GONE = _ITSELF | int(flags.IGNORED | flags.UNMOUNT)
_IGNORED = int(flags.IGNORED)
_OVERFLOW = int(flags.Q_OVERFLOW)
_READ_SIZE = 65_536  # bytes: some 1,500 events, so that a storm is answered while it still blows

_EVERY = "/"  # stands for every name in a directory; none can be it

# It would ask ldconfig for the C library's name, and a compiler if that can't be run (ctypes.util).
vars(inotify_simple).update(_libc=ctypes.CDLL(None, use_errno=True))

_Identity = tuple[int, int] | None  # device and inode


class _Directory:
    """A directory on the way of some trail. ``names``: who waits for which name in it."""

    __slots__ = ("identity", "names", "path", "wd")

    def __init__(self, path: str) -> None:
        self.path = path
        self.wd = -1
        self.identity: _Identity = None
        self.names: dict[str, dict[_Trail, None]] = {}


class _Trail:
    """One followed path and the directories on its way, as they were when last walked."""

    __slots__ = ("end", "every", "goal", "path", "steps", "tag", "through")

    def __init__(self, path: str, tag: str, through: bool, every: bool) -> None:
        self.path = path
        self.tag = tag
        self.through = through
        self.every = every  # the last component stands for every name there
        self.steps: list[tuple[_Directory, str]] = []
        # Where the last component lies, if the way is whole and no symlink on it led back there.
        self.end: _Directory | None = None
        self.goal: _Identity = None


class Watch:
    """Follows paths. Each has a tag; the tags of those that may have changed come out.

    Raises OSError when the kernel has no inotify instance left (EMFILE). A directory that can't
    be watched (no read permission, watches used up) is passed over and stands in ``unwatched``.
    """

    def __init__(self) -> None:
        self._inotify = INotify(nonblocking=True)
        self._table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        # mountinfo is always readable; only EPOLLPRI tells of a change, and edge-triggered it
        # needs no reading. An epoll of its own gives the event loop something to wait for.
        self._mounts = select.epoll()
        self._mounts.register(self._table, select.EPOLLPRI | select.EPOLLET)
        self._trails: dict[tuple[str, str], _Trail] = {}
        self._directories: dict[str, _Directory] = {}
        self._by_wd: dict[int, list[_Directory]] = {}
        self._astray: dict[_Trail, None] = {}  # whose directory is another one, seen by another
        self.unwatched: dict[str, OSError] = {}
        self.overflows = 0

    def fileno(self) -> int:
        """Readable when read() has something to say."""
        descriptor: int = self._inotify.fileno()
        return descriptor

    def mounts_fileno(self) -> int:
        """Readable when the mount table has changed; then call moved().

        Polling takes the news away (fs/namespace.c, mounts_poll), and so does registering it with
        another epoll: call moved() after that, too.
        """
        return self._mounts.fileno()

    def close(self) -> None:
        """Give all descriptors back."""
        self._inotify.close()
        self._mounts.close()
        os.close(self._table)

    def follow(
        self, paths: Iterable[tuple[str, str, bool]], directories: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Follow exactly these (path, tag, through) from now on, and in DIRECTORIES every name.

        ``through`` follows a symlink in the last component as well. What happens to the name N in
        a directory with the tag T comes out as the tag ``T/N``, what happens to the directory or
        on the way to it as T. Look at the disk afterwards: the watches stand from before this
        returns.
        """
        wanted = {(path, tag): (through, False) for path, tag, through in paths}
        wanted |= {(f"{path}/*", tag): (False, True) for path, tag in directories}
        for key in [key for key in self._trails if key not in wanted]:
            self._leave(self._trails.pop(key))
        fresh = {}
        for key, how in wanted.items():
            if key not in self._trails:
                self._trails[key] = fresh[key] = _Trail(*key, *how)
        self._walk(fresh.values())

    def read(self) -> list[str]:
        """Read events that wait, without blocking, and give the tags to look at."""
        try:
            data = os.read(self._inotify.fileno(), _READ_SIZE)
        except BlockingIOError:
            return []
        tags: dict[str, None] = {}
        stale: dict[_Trail, None] = {}
        for wd, mask, _cookie, name in parse_events(data):
            if mask & _OVERFLOW:
                self.overflows += 1
                return self.everything()
            for directory in self._by_wd.get(wd, ()):
                if mask & _IGNORED:
                    directory.wd = -1
                if mask & _GONE or not name:
                    for trails in directory.names.values():
                        stale.update(trails)
                else:
                    _sort_out(directory, name, tags, stale)
            if mask & _IGNORED:
                self._by_wd.pop(wd, None)
        return self._again(stale, tags)

    def moved(self) -> list[str]:
        """After a change of the mount table: the tags of paths that lead elsewhere now.

        Looks only at the identity of the directories on the way, and of what ``through`` paths
        lead to; the mount table itself may be megabytes long and is not read.
        """
        self._mounts.poll(0)
        stale: dict[_Trail, None] = {}
        for directory in self._directories.values():
            if _identity(directory.path) != directory.identity:
                for trails in directory.names.values():
                    stale.update(trails)
        for trail in self._trails.values():
            if trail.through and _identity(trail.path) != trail.goal:
                stale[trail] = None
        return self._again(stale, {})

    def everything(self) -> list[str]:
        """Walk every way anew and give all tags: after an overflow, and as a safety net."""
        self.unwatched.clear()  # what no way passes any more is no trouble
        return self._again(self._trails.values(), {})

    def _again(self, stale: Collection[_Trail], tags: dict[str, None]) -> list[str]:
        if stale:  # where only the end of a way has changed, nothing comes before the repair
            tags.update((trail.tag, None) for trail in self._walk(stale))
        return list(tags)

    def _walk(self, trails: Iterable[_Trail]) -> Iterable[_Trail]:
        """Put watches along TRAILS. What many of them share is watched and looked at once.

        Returns TRAILS, and those that met one of them in a directory which turned out to be
        another one: the events of the old one come too late to be understood.
        """
        statuses: dict[str, os.stat_result] = {}
        watched: dict[str, _Directory | None] = {}
        walked: dict[_Trail, None] = {}
        pending = list(trails)
        while pending:
            for trail in pending:
                walked[trail] = None
                before = trail.steps
                self._walk_one(trail, statuses, watched)
                self._drop(trail, before)
            pending = [trail for trail in self._astray if trail not in walked]
            self._astray.clear()
        return walked

    def _walk_one(
        self,
        trail: _Trail,
        statuses: dict[str, os.stat_result],
        watched: dict[str, _Directory | None],
    ) -> None:
        trail.steps, trail.end = [], None
        try:
            for step in walk(trail.path, trail.through, partial(_cached_lstat, statuses)):
                if step.directory in watched:
                    directory = watched[step.directory]
                else:
                    identity = (step.status.st_dev, step.status.st_ino)
                    directory = watched[step.directory] = self._watch(step.directory, identity)
                if directory is None:
                    continue
                name = _EVERY if step.last and trail.every else step.name
                directory.names.setdefault(name, {})[trail] = None
                trail.steps.append((directory, name))
                trail.end = directory if step.last else None
        except OSError:
            pass  # the way ends here for now; the watch on its last directory tells when it goes on
        if any(directory is trail.end for directory, _ in trail.steps[:-1]):
            trail.end = None  # what happens there may be to a name on the way as well
        trail.goal = _identity(trail.path) if trail.through else None

    def _watch(self, path: str, identity: _Identity) -> _Directory | None:
        """Watch the directory PATH; None if that can't be done."""
        try:
            wd = self._inotify.add_watch(path, _NAMES | _ITSELF)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                self.unwatched[path] = error
            return None
        self.unwatched.pop(path, None)
        directory = self._directories.get(path)
        if directory is None:
            directory = self._directories[path] = _Directory(path)
        directory.identity = identity
        if directory.wd != wd:
            for trails in directory.names.values():
                self._astray.update(trails)
            self._unwatch(directory)
            directory.wd = wd
            # One inode may be met under several paths (bind mounts), and has one watch.
            self._by_wd.setdefault(wd, []).append(directory)
        return directory

    def _leave(self, trail: _Trail) -> None:
        before, trail.steps = trail.steps, []
        self._drop(trail, before)

    def _drop(self, trail: _Trail, before: list[tuple[_Directory, str]]) -> None:
        """Take TRAIL off the steps it had BEFORE and has no more; stop watching for nobody."""
        for directory, name in before:
            if (directory, name) in trail.steps:
                continue
            trails = directory.names.get(name, {})
            trails.pop(trail, None)
            if not trails:
                directory.names.pop(name, None)
            if not directory.names:
                self._directories.pop(directory.path, None)
                self._unwatch(directory)

    def _unwatch(self, directory: _Directory) -> None:
        sharers = self._by_wd.get(directory.wd, [])
        if directory not in sharers:
            return
        sharers.remove(directory)
        if sharers:
            return
        del self._by_wd[directory.wd]
        try:
            self._inotify.rm_watch(directory.wd)
        except OSError:
            pass  # the kernel took it away with the inode; and one too many does no harm


def _sort_out(
    directory: _Directory, name: str, tags: dict[str, None], stale: dict[_Trail, None]
) -> None:
    """Add what happened to NAME in DIRECTORY: to TAGS where only the end of a way has changed, to
    STALE where the way itself may lead elsewhere now."""
    for trail in directory.names.get(name, ()):
        if trail.end is directory and not trail.through:
            tags[trail.tag] = None
        else:
            stale[trail] = None
    for trail in directory.names.get(_EVERY, ()):
        tags[f"{trail.tag}/{name}"] = None


def _cached_lstat(cache: dict[str, os.stat_result], path: str) -> os.stat_result:
    status = cache.get(path)
    if status is None:
        status = cache[path] = os.lstat(path)
    return status


def _identity(path: str) -> _Identity:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
