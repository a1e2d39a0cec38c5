"""The way to a path, directory by directory, as the kernel walks it (path_resolution(7)).

Symlinks on the way are read here instead of being followed by a system call, for two reasons: the
watcher must put a watch on every directory *before* it looks for the next name in it, and whoever
may write one of those directories decides where the path leads.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

MAX_SYMLINKS = 40  # include/linux/namei.h MAXSYMLINKS
NAME_MAX = 255  # bytes of one component: include/uapi/linux/limits.h
PATH_MAX = 4_095  # bytes of a path, and of a symlink's text: the same, less the NUL
_DECIDING = stat.S_IFMT(0o177777) | stat.S_IWGRP | stat.S_IWOTH  # bits of a mode
_HOLD = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Step(NamedTuple):
    """One lookup on the way: ``name`` will be looked for in ``directory``.

    ``directory`` is a physical path (no symlink in it), ``status`` its lstat; ``rest`` are the
    names that will be looked for after this one, the next of them last.
    """

    directory: str
    status: os.stat_result
    name: str
    rest: tuple[str, ...]

    @property
    def last(self) -> bool:
        """Whether it is the lookup of the final component."""
        return not self.rest


def walk(
    path: str,
    through: bool = False,
    lstat: Callable[[str], os.stat_result] = os.lstat,
) -> Iterator[Step]:
    """Yield each lookup that leads to the absolute PATH, before it is done.

    The last component is yielded but not looked at, unless ``through`` asks that a symlink there
    is followed, too. ``lstat`` may be a caching one. Raises the OSError that ends the way: ENOENT,
    ENOTDIR, EACCES, ELOOP; every step up to there has been yielded then.
    """
    pending = _components(path)
    directory, status = "/", lstat("/")
    hops = 0
    while pending:
        name = pending.pop()
        if name == "..":
            directory = os.path.dirname(directory)
            status = lstat(directory)
            continue
        yield Step(directory, status, name, tuple(pending))
        if not pending and not through:
            return
        child = directory + name if directory == "/" else f"{directory}/{name}"
        child_status = lstat(child)
        if stat.S_ISLNK(child_status.st_mode):
            hops += 1
            if hops > MAX_SYMLINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            aim = os.readlink(child)
            pending.extend(_components(aim))
            if aim.startswith("/"):
                directory, status = "/", lstat("/")
        elif stat.S_ISDIR(child_status.st_mode):
            directory, status = child, child_status
        elif pending:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), child)


def _components(path: str) -> list[str]:
    """The names in PATH, the first one last."""
    return [name for name in reversed(path.split("/")) if name and name != "."]


def unsafe(directory: str, status: os.stat_result) -> str | None:
    """Why others than root and this process' user decide what lies in DIRECTORY, or None.

    An access control list shows in the group bits (acl(5)). Members of group 0 count as root. The
    owner of / is not asked for: in a user namespace it is the root outside, whom none maps there
    (user_namespaces(7)).
    """
    if status.st_uid not in (0, os.geteuid()) and directory != "/":
        return f"{directory} belongs to user {status.st_uid}"
    if status.st_mode & stat.S_IWOTH:
        return f"{directory} is writable by everybody"
    if status.st_mode & stat.S_IWGRP and status.st_gid != 0:
        return f"{directory} is writable by group {status.st_gid}"
    return None


def unsafe_ancestor(path: str) -> str | None:
    """Why PATH can't be trusted: the first directory on its way that others own or may write, or
    the first symlink of theirs: whoever made it decided where the path leads.

    None where all of them are safe, also where the way ends early: what doesn't exist is made, or
    waited for, in a directory that was checked. The directories are checked from the root down, so
    that nobody but root can change one after it was found safe. Raises OSError where one can't be
    looked at: not to know is not to be safe (a user's FUSE file system answers root with EACCES).
    """
    try:
        if plainly_safe(path):
            return None
        for step in walk(path, lstat=_look):
            if reason := unsafe(step.directory, step.status):
                return reason
    except _ForeignSymlink as error:
        return f"{error.path} is a symlink of user {error.uid}"
    except (FileNotFoundError, NotADirectoryError):
        pass
    return None


def open_parent(path: str) -> int:
    """Open the directory that the absolute PATH lies in (O_PATH), where nobody but root and this
    process' user can have led it.

    A symlink is followed only where none but they can have put it: never from the first directory
    on that others own or may write. Raises the OSError that ends the way, ELOOP at such a symlink.
    """
    try:
        for step in walk(path, lstat=_look):
            if step.last or unsafe(step.directory, step.status):
                break  # only root could have changed the way up to here since it was looked at
    except _ForeignSymlink as error:
        raise _not_followed(error.path) from None
    directory = os.open(step.directory, _HOLD)
    for name in reversed((*step.rest[1:], step.name) if step.rest else ()):
        above = directory
        try:
            directory = os.open(name, _HOLD, dir_fd=above)
        except NotADirectoryError:
            if stat.S_ISLNK(os.lstat(name, dir_fd=above).st_mode):
                raise _not_followed(path) from None
            raise
        finally:
            os.close(above)
    return directory


def _not_followed(path: str) -> OSError:
    return OSError(errno.ELOOP, "a symlink that others may change is not followed", path)


class _ForeignSymlink(Exception):
    """On the way, ``path`` of the user ``uid``."""

    def __init__(self, path: str, uid: int) -> None:
        super().__init__(path)
        self.path = path
        self.uid = uid


def _look(path: str) -> os.stat_result:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, os.geteuid()):
        raise _ForeignSymlink(path, status.st_uid)
    return status


def plainly_safe(path: str) -> bool:
    """Whether only root's own directories lead to PATH, all there and no symlink: the usual case.

    Says nothing but what walk() and unsafe() would, in less time: this is done before each
    repair. Raises OSError where the way ends.
    """
    end = 0
    while end >= 0:
        status = os.lstat(path[:end] or "/")
        if status.st_mode & _DECIDING != stat.S_IFDIR or status.st_uid != 0:
            return False
        end = path.find("/", end + 1)
    return True
