"""A caller's file system as it sees it: its root directory, its mounts, its working directory."""

import ctypes
import os
import struct
from types import TracebackType

from ovl_linkd.intercept import proc

_OPENAT2 = 437  # on every architecture since openat2(2) came, in Linux 5.6
_IN_ROOT = 0x10

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class View:
    """What the thread TID sees; a context manager, which holds descriptors of it.

    Raises OSError if there is no such thread, or it may not be looked at. As with every number of
    a thread, whoever finds its notification valid afterwards knows that it was the right one.
    """

    def __init__(self, tid: int) -> None:
        self._tid = tid
        flags = os.O_PATH | os.O_DIRECTORY
        self._root = proc.open_of(tid, "root", flags)
        try:
            self._cwd = proc.open_of(tid, "cwd", flags)
        except OSError:
            os.close(self._root)
            raise

    def __enter__(self) -> "View":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._root)
        os.close(self._cwd)

    def same(self, short: bytes, target: bytes) -> bool:
        """Whether SHORT leads there to the same directory as TARGET, both absolute paths."""
        try:
            link = self._open(short, os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            # A symlink that says TARGET is the same by definition, and nothing beyond it, which
            # may be a server that does not answer, has to be looked at.
            if os.readlink(b"", dir_fd=link) == target:
                return True
        except OSError:
            pass  # no symlink
        finally:
            os.close(link)
        try:
            return self._identity(short) == self._identity(target)
        except OSError:
            return False

    def working_directory(self) -> bytes | None:
        """Its working directory as an absolute path there; None where it has none."""
        cwd = proc.link_of(self._tid, "cwd")
        root = proc.link_of(self._tid, "root").rstrip(b"/")
        if not cwd.startswith(root + b"/"):
            return None
        path = cwd[len(root) :]
        # The text is a guess: the directory may be removed, moved, or mounted over.
        try:
            return path if self._identity(path) == _identity(self._cwd) else None
        except OSError:
            return None

    def _identity(self, path: bytes) -> tuple[int, int, bytes]:
        descriptor = self._open(path, os.O_DIRECTORY)
        try:
            return _identity(descriptor)
        finally:
            os.close(descriptor)

    def _open(self, path: bytes, flags: int) -> int:
        how = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC | flags, 0, _IN_ROOT)
        number = int(
            _libc.syscall(
                ctypes.c_long(_OPENAT2),
                ctypes.c_long(self._root),
                path,
                how,
                ctypes.c_long(len(how)),
            )
        )
        if number < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), path)
        return number


def _identity(descriptor: int) -> tuple[int, int, bytes]:
    """Device, inode and mount: a directory that is also mounted elsewhere may there have other
    mounts below it, and another parent."""
    status = os.fstat(descriptor)
    info = proc.read_of("self", f"fdinfo/{descriptor}").splitlines()
    mount = next(line for line in info if line.startswith(b"mnt_id:"))
    return status.st_dev, status.st_ino, mount
