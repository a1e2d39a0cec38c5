"""Who is at the other end of a connection, and what is taken from them: bytes, nothing else."""

import os
import socket
import struct
from contextlib import suppress
from typing import ClassVar

from ovl_linkd.service.kept import Kept

_READ_SIZE = 16_384  # bytes
_SO_PASSRIGHTS = 83  # asm-generic/socket.h


class Peer:
    """The process at the other end of a connection, as it was when it connected (unix(7))."""

    def __init__(self, connection: socket.socket) -> None:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.pid, self.uid, _gid = struct.unpack("3i", credentials)
        self.trusted = self.uid in (0, os.geteuid())


class Plain(socket.socket):
    """A connection on which no descriptors are taken: no call needs any.

    Nor is any let go, since who sent it says how long that takes: a TCP socket may linger
    (SO_LINGER, socket(7)), and of a FUSE file the last to drop it waits, uninterruptibly, until
    its daemon has written what is dirty. So one with which a descriptor came is not read, and
    stays where it is.
    """

    kept: ClassVar[Kept] = Kept()

    def __init__(self, fileno: int) -> None:
        # Of which kind it is, Python would ask the kernel.
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno)
        self._ended = False  # the other side: nothing more can come
        # What is out of band would be passed over by a look, and dropped by what is read after it.
        with suppress(OSError):
            self.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)

    def __repr__(self) -> str:
        """No more than its number. Python's own asks the kernel for both addresses, and asyncio
        has this text made, to forget it, each time it begins or ends to wait for a connection."""
        return f"<connection {self.fileno()}>"

    def recvmsg(
        self, _bufsize: int, _ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        """Read bytes; how many is not the library's to say. OSError if a descriptor came along."""
        if there := self._bare(flags):
            return super().recvmsg(there, 0, flags)
        self._ended = True
        return b"", [], 0, None

    def _bare(self, flags: int) -> int:
        """How many bytes can be read without a descriptor; OSError if one comes first or then."""
        data, _, seen, _ = super().recvmsg(_READ_SIZE, 0, flags | socket.MSG_PEEK)
        if seen & socket.MSG_CTRUNC:
            raise DescriptorCame
        return len(data)

    def close(self) -> None:
        """Close it, unless there is a descriptor in what was not read."""
        if self.fileno() >= 0:
            with suppress(OSError):
                # From now on nothing more can come. And who waits for the end of what we say hears
                # of it, though a child that reads the configuration has the connection, too.
                self.shutdown(socket.SHUT_RDWR)
            if not self._ended and self._holds_one():
                self.kept.append(self.detach())
        super().close()

    def _holds_one(self) -> bool:
        try:
            while there := self._bare(socket.MSG_DONTWAIT):
                super().recvmsg(there, 0, socket.MSG_DONTWAIT)
        except DescriptorCame:
            return True
        except OSError:
            pass
        return False


class DescriptorCame(ConnectionError):
    """A client sent one (SCM_RIGHTS, unix(7))."""


def refuse_descriptors(listener: socket.socket) -> None:
    """Have who sends one to a client of LISTENER get EPERM; from Linux 6.16 on."""
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)


def stop_listening(listener: socket.socket) -> None:
    """Close LISTENER, and what came with those who still wait there is not let go either."""
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RD)  # nobody else connects
        while True:
            Plain(listener.accept()[0].detach()).close()
    listener.close()
