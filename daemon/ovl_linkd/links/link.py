"""One kept symlink: what is at its path, and how it is made where nothing is.

How one takes the place of another is exchange.py's. Nothing here decides *when*: that is the
keeper's.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ovl_linkd.links.walk import open_parent, unsafe_ancestor, walk


class Link(NamedTuple):
    """A link that is wanted: a short ``path`` that leads to ``target``, both absolute.

    ``guard`` is none or append-only: what its directory is to be.
    """

    name: str
    path: str
    target: str
    allow_unsafe_parent: bool = False
    guard: str = "none"


class Observation(NamedTuple):
    """What was seen at a link's path.

    ``state`` is one of ok, dangling, missing, wrong, blocked, waiting, failing (ovl-linkd(8)).
    ``actual`` is the text of the symlink found there, None where there is no symlink.
    ``target_exists`` says whether the wanted target is a directory; None where it may not be
    looked at. ``reason`` and ``remedy`` are sentences for a person, None when all is well.
    """

    state: str
    actual: str | None
    target_exists: bool | None
    reason: str | None = None
    remedy: str | None = None


def observe(link: Link) -> Observation:
    """Look at LINK on disk. Changes nothing and raises nothing."""
    target_exists, target_reason = _look_at_target(link.target)
    try:
        actual = os.readlink(link.path)
    except OSError as error:
        return _observe_no_symlink(link, error, target_exists)
    if actual != link.target:
        reason = f"the symlink leads to {actual}"
        return Observation("wrong", actual, target_exists, reason)
    if target_exists is False:
        remedy = "nothing if the program that owns the target has not run yet"
        if os.path.lexists(link.target):
            remedy = "name a directory as the link's target"
        return Observation("dangling", actual, False, target_reason, remedy)
    return Observation("ok", actual, target_exists)


def is_right(link: Link) -> bool:
    """Whether the symlink at LINK's path is seen to say what it should; one system call."""
    try:
        return is_ours(link)
    except OSError:
        return False


def is_ours(link: Link) -> bool:
    """The same for who does away with it. Raises the OSError that keeps it from being told."""
    try:
        return os.readlink(link.path) == link.target
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.EINVAL:  # no symlink: readlink(2)
            return False
        raise


def _look_at_target(target: str) -> tuple[bool | None, str | None]:
    try:
        if stat.S_ISDIR(os.stat(target).st_mode):
            return True, None
        return False, f"the target is not a directory: {target}"
    except (FileNotFoundError, NotADirectoryError):
        return False, f"the target does not exist: {target}"
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return None, None
        return False, f"the target can't be used: {error.strerror}: {target}"


def _observe_no_symlink(link: Link, error: OSError, target_exists: bool | None) -> Observation:
    """What stands where readlink(2) failed with ERROR."""
    if error.errno == errno.EINVAL:
        remedy = f"move {link.path} away; the link is made as soon as the path is free"
        return Observation("blocked", None, target_exists, obstacle(link.path), remedy)
    if error.errno not in (errno.ENOENT, errno.ENOTDIR):
        return Observation(
            "failing", None, target_exists, cause(error, link), remedy_for(error, link)
        )
    parent = os.path.dirname(link.path)
    if os.path.isdir(parent):
        remedy = f"ovl-linkd repair {link.name} --offline, or start the daemon"
        return Observation("missing", None, target_exists, f"nothing at {link.path}", remedy)
    reason = f"no directory {parent}"
    remedy = f"make the directory {parent}; the link follows by itself"
    if os.path.lexists(parent):
        remedy = f"move {parent} away: it is no directory, and leads to none"
    return Observation("waiting", None, target_exists, reason, remedy)


def obstacle(path: str) -> str:
    """What is at PATH and is no symlink, as a sentence."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return f"something that is no symlink is at {path}"
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a directory", stat.S_IFSOCK: "a socket"}
    return f"{kinds.get(stat.S_IFMT(mode), 'a special file')} is at {path}"


def create(link: Link) -> None:
    """Make LINK where nothing is. Raises FileExistsError where something is, and other OSErrors.

    symlink(2) never follows or replaces what is at the path. It is all that is needed where only
    root can change the way there.
    """
    if not link.allow_unsafe_parent:
        os.symlink(link.target, link.path)
        return
    with held_parent(link) as directory:
        os.symlink(link.target, os.path.basename(link.path), dir_fd=directory)


@contextmanager
def held_parent(link: Link) -> Iterator[int]:
    """The directory that LINK lies in, open (O_PATH) within the context, whoever may write on the
    way there.

    Keep that short: its file system can't be unmounted meanwhile. Raises OSError.
    """
    if link.allow_unsafe_parent:
        directory = open_parent(link.path)
    else:  # nobody but root could have changed the way since that was found out
        directory = os.open(os.path.dirname(link.path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


def create_parent(link: Link) -> str | None:
    """Make the directory that LINK lies in, mode 0755; say why it is awaited instead, or None.

    It is made only where its own parent exists, belongs to root or this process' user, and can't
    be written by others; never more than that one directory, because a missing one further up is
    more likely a file system that is not mounted yet. Raises OSError, such as EROFS.
    """
    parent = os.path.dirname(link.path)
    if reason := unsafe_ancestor(parent):
        return reason  # allow_unsafe_parent lets us use such a directory, not make one
    umask = os.umask(0o022)  # and no chmod afterwards: the name might lead elsewhere by then
    try:
        os.mkdir(parent, 0o755)
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        return None if os.path.isdir(parent) else f"{error.strerror}: {parent}"
    finally:
        os.umask(umask)
    return None


def cause(error: OSError, link: Link) -> str:
    """What ERROR, met while LINK was put right, says of which path."""
    # A name alone is one in the link's directory, held_parent().
    name = error.filename2 or error.filename or link.path
    return f"{error.strerror}: {os.path.join(os.path.dirname(link.path), name)}"


def remedy_for(error: OSError, link: Link) -> str:
    """What a person can do about ERROR, met while LINK was put right."""
    parent = os.path.dirname(link.path)
    remedies = {
        # A mount namespace does not follow when a mount is made writable outside it.
        errno.EROFS: f"mount the file system of {parent} read-write, or in a sandboxed unit add "
        f"ReadWritePaths={parent}; then restart the daemon",
        errno.ENOSPC: f"free space or inodes on the file system of {parent}",
        errno.EDQUOT: f"raise the quota on the file system of {parent}",
        errno.EACCES: f"run as a user who may write {parent}, or give it to this one",
        errno.EPERM: f"see whether {parent} is append-only or immutable (lsattr -d {parent})",
        errno.EINVAL: f"this file system can't exchange two names: remove {link.path} by hand",
        errno.EBUSY: f"move {error.filename} away, and see what else changes {link.path}",
        errno.ELOOP: f"see where the symlinks on the way to {link.path} lead",
    }
    return remedies.get(error.errno or 0, f"see what is wrong with {parent}")


def in_run(link: Link) -> bool:
    """Whether LINK really lies below /run, where nothing outlives a boot."""
    directory = "/"
    try:
        for step in walk(link.path):
            directory = step.directory
    except OSError:
        return link.path.startswith("/run/")
    return f"{directory}/".startswith("/run/")
