"""Calls of D-Bus methods at the other end of a socket: as much of it as a supervisor needs.

No library: what is asked of systemd is asked at its own socket, which is there from the first
moment of a boot, before dbus-daemon and without it. Source: the D-Bus specification, "Message
Protocol" and "Authentication Protocol".
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

_CALL, _RETURN, _ERROR = 1, 2, 3

Value = str | int | list[str] | list[int]


class Failed(Exception):
    """The other end answered with an error, or not as it should."""


class Connection:
    """To who listens at ADDRESS, as this process' user; a context manager. Raises OSError, Failed.

    SECONDS: for each step. ``peer``: the process at the other end, 0 if it can't be seen from here.
    """

    def __init__(self, address: str, seconds: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._calls = 0
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(address)
            credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            self.peer: int = struct.unpack("=3i", credentials)[0]
            self._stream = self._socket.makefile("rb")
            self._socket.sendall(_greeting())
            if not self._stream.readline(256).startswith(b"OK "):
                raise Failed("not let in")
            self._socket.sendall(b"BEGIN\r\n")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def call(self, where: tuple[str, str, str, str], kind: str, body: bytes) -> bytes:
        """Call WHERE, (destination, path, interface, member), with a BODY of the signature KIND.

        Return the body of the answer. Raises OSError, Failed.
        """
        self._calls += 1
        destination, path, interface, member = where
        head = Text(struct.pack("=4B2I", _ORDER, _CALL, 0, 1, len(body), self._calls))
        with head.array(8):
            for number, of, value in (
                *((1, "o", path), (2, "s", interface), (3, "s", member)),
                *((6, "s", destination), (8, "g", kind)),
            ):
                head.align(8)
                head.data.append(number)
                head.variant(of, value)
        head.align(8)
        self._socket.sendall(head.data + body)
        return self._answer()

    def _answer(self) -> bytes:
        """What comes up to the answer are signals, which nobody asked for."""
        while True:
            head = self._stream.read(16)
            if len(head) < 16 or head[0] != _ORDER:
                raise Failed("no answer")
            size, _, fields = struct.unpack("=3I", head[4:])
            self._stream.read(fields + -fields % 8)
            body = self._stream.read(size)
            if head[1] == _RETURN:
                return body
            if head[1] == _ERROR:
                raise Failed(body[4:].rstrip(b"\0").decode(errors="replace"))


_ORDER = ord("l") if struct.pack("=H", 1) == b"\1\0" else ord("B")


def _greeting() -> bytes:
    return b"\0AUTH EXTERNAL %s\r\n" % str(os.geteuid()).encode().hex().encode()


class Text:
    """A part of a message that is being put together, after START."""

    def __init__(self, start: bytes = b"") -> None:
        self.data = bytearray(start)

    def align(self, to: int) -> None:
        """Pad with zeros up to a multiple of TO."""
        self.data += bytes(-len(self.data) % to)

    def variant(self, kind: str, value: Value) -> None:
        """Append VALUE of the type KIND, with that."""
        self.put("g", kind)
        self.put(kind, value)

    def put(self, kind: str, value: Value) -> None:
        """Append VALUE of the type KIND: s, o, g, u, t, or an array of these."""
        if isinstance(value, list):
            with self.array(4):
                for each in value:
                    self.put(kind[1:], each)
        elif isinstance(value, int):
            size, form = (8, "=Q") if kind == "t" else (4, "=I")
            self.align(size)
            self.data += struct.pack(form, value)
        elif kind == "g":
            self.data += struct.pack("B", len(value)) + value.encode() + b"\0"
        else:
            self.align(4)
            self.data += struct.pack("=I", len(value.encode())) + value.encode() + b"\0"

    @contextlib.contextmanager
    def array(self, alignment: int) -> Iterator[None]:
        """What is put inside is an array's, with elements that begin at multiples of ALIGNMENT."""
        self.align(4)
        at = len(self.data)
        self.data += bytes(4)
        self.align(alignment)
        start = len(self.data)
        yield
        struct.pack_into("=I", self.data, at, len(self.data) - start)
