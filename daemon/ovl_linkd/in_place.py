"""A file that somebody else owns, changed as a whole: nobody ever sees half of it.

The new file is made beside the old one, with its owner, mode and extended attributes, is on the
disk before it takes the name, and takes it only while the old one is what was read.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ovl_linkd.errors import UserError
from ovl_linkd.replacing import sync_directory

_USUAL = "give it a name of its own, or change it by hand"


class Original(NamedTuple):
    """A file as it was read. ``path``: its real one, behind every symlink; ``name``: as it was
    given. ``version``: what changes whenever the file does."""

    name: str
    path: str
    text: bytes
    status: os.stat_result

    @property
    def version(self) -> tuple[int, ...]:
        """Device, inode, size and times."""
        return _version(self.status)


def read(name: str, most: int) -> Original:
    """Read the file NAME, of at most MOST bytes. Raises OSError, and UserError for what is none."""
    path = os.path.realpath(name)
    # Not held up by a FIFO.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{name} is not a file", "standard input takes what is none")
        if status.st_nlink > 1:
            # A new file would leave the others with the old text.
            raise UserError(f"{name} has {status.st_nlink} names (hard links)", _USUAL)
        with open(descriptor, "rb", closefd=False) as file:
            text = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(text) > most:
        raise UserError(f"{name} has more than {most:,} bytes", "is this the right file?", 2)
    return Original(name, path, text, status)


class Prepared(NamedTuple):
    """The new text of a file, on the disk beside it under the name ``spare``."""

    original: Original
    spare: str


def prepare(original: Original, text: bytes) -> Prepared:
    """Put TEXT on the disk, beside the file that ORIGINAL was read from. Raises OSError."""
    directory, name = os.path.split(original.path)
    spare = os.path.join(directory, f".{name[:50]}.{os.urandom(6).hex()}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(spare, flags, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            _be_like(descriptor, original)
            os.fsync(descriptor)
    except BaseException:
        os.unlink(spare)
        raise
    return Prepared(original, spare)


def replace(prepared: Sequence[Prepared]) -> None:
    """Have each file say its new text; none of them where one isn't what was read any more.

    Raises OSError, and UserError for that. What has not taken its place is gone then.
    """
    left = list(prepared)
    try:
        for original, _ in prepared:
            if _version(os.lstat(original.path)) != original.version:
                raise UserError(
                    f"{original.name} was changed by somebody else meanwhile",
                    "look at it, and try again",
                )
        while left:
            os.rename(left[0].spare, left[0].original.path)
            sync_directory(os.path.dirname(left.pop(0).original.path))
    finally:
        discard(left)


def discard(prepared: Iterable[Prepared]) -> None:
    """Take away new texts that will not be used."""
    for each in prepared:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(each.spare)


def _be_like(descriptor: int, original: Original) -> None:
    """Owner first: a change of it clears bits of the mode and takes file capabilities away."""
    os.fchown(descriptor, original.status.st_uid, original.status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(original.status.st_mode))
    mine = set(os.listxattr(descriptor))
    for attribute in os.listxattr(original.path):
        value = os.getxattr(original.path, attribute)
        if attribute not in mine or os.getxattr(descriptor, attribute) != value:
            os.setxattr(descriptor, attribute, value)


def _version(status: os.stat_result) -> tuple[int, ...]:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
