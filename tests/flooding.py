"""What a local user does at the control socket who means no good."""

import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.others import NOBODY, meanwhile

_STATUS = b'{"method":"org.ovl-linkd.Control.Status"}\0'
# What is sent by each connection in turn, and never an answer read.
_MESSAGES = (
    b'{"method":"org.ovl-linkd.Control.Monitor","more":true}\0',
    b'{"method":"org.ovl-linkd.Contr',
    b"x" * 300_000,
    b"[" * 50_000 + b"\0",
    _STATUS * 200,
    b"\0" * 200_000,
    b"0\0" * 100_000,
    b'{"method":"org.ovl-linkd.Control.Rewrite","parameters":{"options":"lowerdir='
    + b":".join(b"/%d" % number for number in range(9_000))
    + b'"}}\0',
)


@contextmanager
def flooded(path: str, on: int | None = None) -> Iterator[None]:
    """A stranger floods the socket PATH meanwhile; on the processor ON, if that is given."""

    def flood() -> None:
        if on is not None:
            os.sched_setaffinity(0, {on})
        os.setresuid(NOBODY, NOBODY, NOBODY)
        _flood(path)

    with meanwhile(flood):
        yield


def _flood(path: str) -> None:
    """Send all of it, by ever new connections, of which some hundreds stay open. Has no end."""
    held: list[socket.socket] = []
    for tried in itertools.count(1):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with suppress(OSError):
            connection.connect(path)
            connection.send(_MESSAGES[tried % len(_MESSAGES)])
        held.append(connection)
        if len(held) > 300:
            held.pop(tried % 300).close()
