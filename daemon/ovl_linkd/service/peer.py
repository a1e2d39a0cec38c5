"""Who is at the other end of a connection, and how long a request of theirs may be."""

import os
import socket
import struct

MOST_BYTES = 256 * 1024  # of one request: 131,060 bytes of options fit
MOST_MARKS = 4_000  # commas and backslashes in one of a stranger's: each takes time to understand


class Peer:
    """The process at the other end of a connection, as it was when it connected (unix(7))."""

    def __init__(self, connection: socket.socket) -> None:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.pid, self.uid, _gid = struct.unpack("3i", credentials)
        self.trusted = self.uid in (0, os.geteuid())


class Incoming:
    """The request of a peer that has not come whole yet; each ends in NUL."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._bytes = 0
        self._marks = 0

    def takes(self, data: bytes) -> bool:
        """Add DATA, which has come; whether what is not whole then may still become a request."""
        end = data.rfind(0)
        if end >= 0:
            self._bytes = self._marks = 0
        self._bytes += len(data) - end - 1
        self._marks += data.count(b",", end + 1) + data.count(b"\\", end + 1)
        return self._bytes <= MOST_BYTES and (self._peer.trusted or self._marks <= MOST_MARKS)
