"""Who is at the other end of a connection, and what is taken from them: bytes, nothing else."""

import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_READ_SIZE = 16_384  # bytes
_SO_PASSRIGHTS = 83  # asm-generic/socket.h
_MOMENT = 0.005  # seconds


class Peer:
    """The process at the other end of a connection, as it was when it connected (unix(7))."""

    def __init__(self, connection: socket.socket) -> None:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.pid, self.uid, _gid = struct.unpack("3i", credentials)
        self.trusted = self.uid in (0, os.geteuid())


class Plain(socket.socket):
    """A connection on which no descriptors are taken: no call needs any.

    What happens when one is let go is up to who sent it. close(2) waits for the daemon of a FUSE
    file system: so none is ever installed. A TCP socket may linger (SO_LINGER, socket(7)) for as
    long as it says, also where it is only dropped: a signal ends that.
    """

    def recvmsg(
        self, _bufsize: int, _ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        """Read bytes, and nothing that came along; how many is not the library's to say."""
        with _for_a_moment():
            return super().recvmsg(_READ_SIZE, 0, flags)

    def close(self) -> None:
        """Close it; what was sent and not read goes with it."""
        with _for_a_moment():
            super().close()


@contextmanager
def _for_a_moment() -> Iterator[None]:
    """A signal comes after a moment and ends what a signal can."""
    signal.setitimer(signal.ITIMER_REAL, _MOMENT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def refuse_descriptors(listener: socket.socket) -> None:
    """Have who sends one to a client of LISTENER get EPERM; from Linux 6.16 on."""
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
    signal.signal(signal.SIGALRM, lambda *_: None)  # it only has to come
