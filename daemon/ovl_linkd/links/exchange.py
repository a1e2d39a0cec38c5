"""A symlink that takes the place of another, atomically, and what is left when that is cut short.

All of it happens in one directory, held open meanwhile: whoever owns one further up could lead the
path elsewhere between two system calls, and have us remove what has our temporary name there. In
the directory itself nobody loses by us what is safe from its other owners: who puts a file under
that name between our look and our unlink(2), which can't ask again, could as well remove it.
"""

import errno
import os
import stat
from binascii import crc32
from collections.abc import Iterator
from contextlib import contextmanager

from ovl_linkd.links.link import Link, held_parent, obstacle
from ovl_linkd.links.walk import NAME_MAX, unsafe_ancestor

_RENAME_NOREPLACE = 1  # include/uapi/linux/fs.h
_RENAME_EXCHANGE = 2


class Displaced(OSError):
    """Something that isn't ours lies under a link's temporary name, ``filename``.

    It may have been put at the link's path during a replacement. Nothing was removed.
    """

    def __init__(self, what: str, link: Link) -> None:
        super().__init__(errno.EBUSY, what, spare_path(link))


def spare_path(link: Link) -> str:
    """LINK's temporary name, beside it. A fixed one, so that one run finds what another left."""
    directory, name = os.path.split(link.path)
    raw = os.fsencode(name)
    if len(raw) > NAME_MAX - len(b"..ovl-linkd"):
        name = f"{crc32(raw):08x}"
    return f"{directory}/.{name}.ovl-linkd"


def exchange(link: Link) -> str:
    """Put LINK in the place of the symlink at its path, atomically; return the old one's text.

    What is at the path is looked at only *after* it was exchanged for the new symlink, so that a
    file which somebody put there a moment ago survives: it is exchanged back and FileExistsError
    is raised. Where files keep coming, the last one keeps a temporary name and Displaced says so.
    Raises FileNotFoundError if the path became free, and OSError EINVAL or ENOSYS on a file system
    without RENAME_EXCHANGE (rename(2)).
    """
    with _held(link) as place:
        _make_spare(place)
        try:
            place.rename_spare(_RENAME_EXCHANGE)
        except OSError:
            place.remove_spare()
            raise
        try:
            old = place.text(place.spare)
        except FileNotFoundError:
            return ""  # the link is in place; what came out was removed before it could be read
        if old is None:
            _hand_back(place)
            raise FileExistsError(errno.EEXIST, obstacle(link.path), link.path)
        place.remove_spare()
        return old


def sweep(link: Link) -> None:
    """Clear away what a process that was killed in the middle of exchange() left behind.

    Our own symlink under the temporary name is removed; anything else came from the link's path
    and is put back there. Where others may write the directory, what belongs to one of them is
    left alone: it may be an attempt to have the link replaced by a directory of his. Raises
    OSError.
    """
    if not os.path.lexists(spare_path(link)):
        return  # nearly always: to hold the directory for that would take several times as long
    with _held(link) as place:
        _sweep(place)


class _Place:
    """A link's directory, open, and the two names in it: the link's, and the temporary one."""

    def __init__(self, link: Link, directory: int) -> None:
        self.link = link
        self.name, self.spare = map(os.path.basename, (link.path, spare_path(link)))
        self._directory = directory

    def make_spare(self) -> None:
        os.symlink(self.link.target, self.spare, dir_fd=self._directory)

    def rename_spare(self, flag: int) -> None:
        """Let the temporary name become the link's; FLAG: how, as for renameat2(2)."""
        import ctypes  # commands that only look don't pay for it

        libc = ctypes.CDLL(None, use_errno=True)
        old, new = os.fsencode(self.spare), os.fsencode(self.name)
        if libc.renameat2(self._directory, old, self._directory, new, flag) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), self.link.path)

    def remove_spare(self) -> None:
        os.unlink(self.spare, dir_fd=self._directory)

    def text(self, name: str) -> str | None:
        """What the symlink at NAME says; None if anything else is there."""
        try:
            return os.readlink(name, dir_fd=self._directory)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise

    def status(self, name: str) -> os.stat_result | None:
        """Of what is at NAME; None if nothing is."""
        try:
            return os.lstat(name, dir_fd=self._directory)
        except FileNotFoundError:
            return None


@contextmanager
def _held(link: Link) -> Iterator[_Place]:
    with held_parent(link) as directory:
        yield _Place(link, directory)


def _make_spare(place: _Place) -> None:
    """Make the symlink under the temporary name."""
    try:
        place.make_spare()
    except FileExistsError:
        _sweep(place)
        try:
            place.make_spare()
        except FileExistsError:
            raise Displaced("the temporary name is taken", place.link) from None


def _hand_back(place: _Place) -> None:
    """Exchange what came out under the temporary name and is no symlink back to where it was."""
    try:
        place.rename_spare(_RENAME_EXCHANGE)
    except FileNotFoundError:
        place.rename_spare(_RENAME_NOREPLACE)  # our own symlink was removed meanwhile
        return
    if place.text(place.spare) is not None:
        place.remove_spare()
        return
    # A second file was put over our symlink in between. It is the newer one: it gets the path.
    place.rename_spare(_RENAME_EXCHANGE)
    raise Displaced(f"files keep being put at {place.link.path}; an older one is now", place.link)


def _sweep(place: _Place) -> None:
    status = place.status(place.spare)
    if status is None:
        return
    if status.st_uid not in (0, os.geteuid()) and unsafe_ancestor(place.link.path):
        return
    if stat.S_ISLNK(status.st_mode):
        place.remove_spare()
    elif place.status(place.name) is None:
        place.rename_spare(_RENAME_NOREPLACE)
    elif place.text(place.name) == place.link.target:
        _hand_back(place)
