"""What a local user does at the control socket who means no good."""

import socket
import time
from contextlib import suppress

_STATUS = b'{"method":"org.ovl-linkd.Control.Status"}\0'
#: what is sent by each connection in turn, and never an answer read
MESSAGES = {
    "monitors": b'{"method":"org.ovl-linkd.Control.Monitor","more":true}\0',
    "halves": b'{"method":"org.ovl-linkd.Contr',
    "huge": b"x" * 300_000,
    "deep": b"[" * 50_000 + b"\0",
    "many": _STATUS * 200,
    "rewrites": b'{"method":"org.ovl-linkd.Control.Rewrite","parameters":{"options":"lowerdir='
    + b":".join(b"/%d" % number for number in range(9_000))
    + b'"}}\0',
}


def flood(path: str, seconds: float, kinds: tuple[str, ...] = tuple(MESSAGES)) -> int:
    """Send what KINDS name to the socket PATH, by ever new connections; how many were tried."""
    held: list[socket.socket] = []
    tried, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with suppress(OSError):
            connection.connect(path)
            connection.send(MESSAGES[kinds[tried % len(kinds)]])
        held.append(connection)
        tried += 1
        if len(held) > 300:
            held.pop(tried % 300).close()
    return tried
