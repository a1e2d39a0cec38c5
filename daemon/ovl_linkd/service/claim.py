"""Whose the path of a control socket is: nobody's, another daemon's, a stranger's, or ours."""

import errno
import fcntl
import os
import socket
import stat

from ovl_linkd.errors import UserError
from ovl_linkd.service.peer import Peer

_LONGEST = 100  # bytes: three numbers

Identity = tuple[int, int]  # of a file: device and inode


class Claim:
    """The file beside the socket at ``path`` that is locked for as long as a daemon serves it.

    It says who does, and which socket that daemon made: the next one knows it for stale. To connect
    and see would do as well, but in the sandbox nobody may connect to anything.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None
        self.made: Identity | None = None

    def take(self) -> None:
        """Learn which socket was made by whoever had this last.

        Raises UserError if another daemon has it; OSError.
        """
        if self._file is not None:
            return
        # A file of our own: a directory may be locked by whoever may read it (flock(2)).
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(f"{self._path}.lock", flags, 0o600)
        try:
            pid, *_ = _numbers(file) or [0]
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _, *made = _numbers(file) or [0]  # which may be another, until we have it
        except BlockingIOError:
            os.close(file)
            raise _taken(self._path, pid) from None
        except OSError:
            os.close(file)
            raise
        self._file = file
        self.record((made[0], made[1]) if len(made) == 2 else None)

    def record(self, made: Identity | None) -> None:
        """Write down that we serve, and which socket of ours is at the path. Raises OSError."""
        self.made = made
        if self._file is not None:
            text = " ".join(str(number) for number in (os.getpid(), *(made or ())))
            # All of it by one call, over all that was there: killed between two, we would leave a
            # socket that nobody knows.
            os.pwrite(self._file, f"{text:<{_LONGEST - 1}}\n".encode(), 0)

    def clear(self) -> None:
        """Remove the socket at the path if it is stale.

        Raises UserError where a daemon listens, FileExistsError where something is that we did not
        make, and other OSErrors.
        """
        try:
            mode = os.lstat(self._path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise FileExistsError(errno.EEXIST, "not a socket, and left alone", self._path)
        if identity(self._path) == self.made:
            os.unlink(self._path)
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            try:
                probe.connect(self._path)
            except ConnectionRefusedError:
                os.unlink(self._path)
                return
            except PermissionError:  # the sandbox
                text = "a socket that ovl-linkd did not make, and left alone"
                raise FileExistsError(errno.EEXIST, text, self._path) from None
            except BlockingIOError:
                raise _taken(self._path) from None  # its backlog is full: somebody listens
            raise _taken(self._path, Peer(probe).pid)

    def give_up(self) -> None:
        """Let the next one have it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _numbers(file: int) -> list[int]:
    return [int(word) for word in os.pread(file, _LONGEST, 0).split() if word.isdigit()]


def _taken(path: str, pid: int | str = "unknown") -> UserError:
    return UserError(
        f"a daemon is already running with this control socket (pid {pid}): {path}",
        "ovl-linkd status; or stop that one first",
    )


def identity(path: str) -> Identity | None:
    """Of what is at PATH; None where nothing is, or it can't be seen."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
