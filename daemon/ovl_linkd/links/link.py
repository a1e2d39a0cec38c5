"""One kept symlink: what is at its path, and how it is put right.

The only module that makes a symlink. Nothing here decides *when*: that is the keeper's.
"""

import errno
import os
import stat
from binascii import crc32
from typing import NamedTuple

from ovl_linkd.links.walk import unsafe_ancestor, walk

_RENAME_NOREPLACE = 1  # include/uapi/linux/fs.h
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100  # include/uapi/linux/fcntl.h
_NAME_MAX = 255  # include/uapi/linux/limits.h


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

    ``state`` is one of ok, dangling, missing, wrong, blocked, waiting, failing (DESIGN 4).
    ``actual`` is the text of the symlink found there, None where there is no symlink.
    ``target_exists`` says whether the wanted target is a directory; None where it may not be
    looked at. ``reason`` and ``remedy`` are sentences for a person, None when all is well.
    """

    state: str
    actual: str | None
    target_exists: bool | None
    reason: str | None = None
    remedy: str | None = None


class Displaced(OSError):
    """Something that isn't ours lies under a link's temporary name, ``filename``.

    It may have been put at the link's path during a replacement. Nothing was removed.
    """


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
    """Whether the symlink at LINK's path says what it should; one system call."""
    try:
        return os.readlink(link.path) == link.target
    except OSError:
        return False


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
        return Observation("blocked", None, target_exists, _obstacle(link.path), remedy)
    if error.errno not in (errno.ENOENT, errno.ENOTDIR):
        reason = f"{error.strerror}: {link.path}"
        return Observation("failing", None, target_exists, reason, remedy_for(error, link))
    parent = os.path.dirname(link.path)
    if os.path.isdir(parent):
        remedy = f"ovl-linkd repair {link.name} --offline, or start the daemon"
        return Observation("missing", None, target_exists, f"nothing at {link.path}", remedy)
    reason = f"no directory {parent}"
    remedy = f"make the directory {parent}; the link follows by itself"
    if os.path.lexists(parent):
        remedy = f"move {parent} away: it is no directory, and leads to none"
    return Observation("waiting", None, target_exists, reason, remedy)


def _obstacle(path: str) -> str:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return f"something that is no symlink is at {path}"
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a directory", stat.S_IFSOCK: "a socket"}
    return f"{kinds.get(stat.S_IFMT(mode), 'a special file')} is at {path}"


def create(link: Link) -> None:
    """Make LINK where nothing is. Raises FileExistsError where something is, and other OSErrors.

    One system call: symlink(2) never follows or replaces what is at the path.
    """
    os.symlink(link.target, link.path)


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


def exchange(link: Link) -> str:
    """Put LINK in the place of the symlink at its path, atomically; return the old one's text.

    What is at the path is looked at only *after* it was exchanged for the new symlink, so that a
    file which somebody put there a moment ago survives: it is exchanged back and FileExistsError
    is raised. Where files keep coming, the last one keeps a temporary name and Displaced says so.
    Raises FileNotFoundError if the path became free, and OSError EINVAL or ENOSYS on a file system
    without RENAME_EXCHANGE (rename(2)).
    """
    spare = _make_spare(link)
    try:
        _renameat2(spare, link.path, _RENAME_EXCHANGE)
    except OSError:
        os.unlink(spare)
        raise
    try:
        old = _text(spare)
    except FileNotFoundError:
        return ""  # the link is in place; what came out was removed before it could be read
    if old is None:
        _hand_back(link, spare)
        raise FileExistsError(errno.EEXIST, _obstacle(link.path), link.path)
    os.unlink(spare)
    return old


def _hand_back(link: Link, spare: str) -> None:
    """Exchange what came out at SPARE and is no symlink back to where it was."""
    try:
        _renameat2(spare, link.path, _RENAME_EXCHANGE)
    except FileNotFoundError:
        _renameat2(spare, link.path, _RENAME_NOREPLACE)  # our own symlink was removed meanwhile
        return
    if _text(spare) is not None:
        os.unlink(spare)
        return
    # A second file was put over our symlink in between. It is the newer one: it gets the path.
    _renameat2(spare, link.path, _RENAME_EXCHANGE)
    raise Displaced(errno.EBUSY, f"files keep being put at {link.path}; an older one is now", spare)


def sweep(link: Link) -> None:
    """Clear away what a process that was killed in the middle of exchange() left behind.

    Our own symlink under the temporary name is removed; anything else came from the link's path
    and is put back there. Where others may write the directory, what belongs to one of them is
    left alone: it may be an attempt to have the link replaced by a directory of his. Raises
    OSError.
    """
    spare = spare_path(link)
    try:
        status = os.lstat(spare)
    except (FileNotFoundError, NotADirectoryError):
        return
    if status.st_uid not in (0, os.geteuid()) and unsafe_ancestor(link.path):
        return
    if stat.S_ISLNK(status.st_mode):
        os.unlink(spare)
    elif is_right(link):
        _hand_back(link, spare)
    elif not os.path.lexists(link.path):
        _renameat2(spare, link.path, _RENAME_NOREPLACE)


def _make_spare(link: Link) -> str:
    """Make the symlink under a temporary name beside the path; return that name."""
    spare = spare_path(link)
    try:
        os.symlink(link.target, spare)
    except FileExistsError:
        sweep(link)
        try:
            os.symlink(link.target, spare)
        except FileExistsError:
            raise Displaced(errno.EBUSY, "the temporary name is taken", spare) from None
    return spare


def spare_path(link: Link) -> str:
    """LINK's temporary name: a fixed one, so that one run finds what another left."""
    directory, name = os.path.split(link.path)
    raw = os.fsencode(name)
    if len(raw) > _NAME_MAX - len(b"..ovl-linkd"):
        name = f"{crc32(raw):08x}"
    return f"{directory}/.{name}.ovl-linkd"


def _text(path: str) -> str | None:
    """What the symlink at PATH says; None if anything else is there."""
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise


def _renameat2(old: str, new: str, flags: int) -> None:
    import ctypes  # commands that only look don't pay for it

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), new)


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
