"""A scope of systemd's for the supervisor, out of reach of the service that it was started from.

By systemd's own socket, which is there from the first moment of a boot and for which neither
dbus-daemon nor a library is needed. Sources: the D-Bus specification ("Message Protocol",
"Authentication Protocol"); org.freedesktop.systemd1(5), StartTransientUnit.
"""

import contextlib
import os
import re
import socket
import struct
import time
from collections.abc import Iterator

_ROOTS = "/run/systemd/private"
_SECONDS = 5.0
_METHOD_CALL, _METHOD_RETURN, _ERROR = 1, 2, 3

Value = str | int | list[str] | list[int]


def unit_of_this_process() -> str | None:
    """The service or scope that this process is in; None where there is none."""
    found = re.findall(r"/([^/\n]+\.(?:service|scope))(?=/|$)", _cgroup(), re.MULTILINE)
    return found[-1] if found else None


def enter(before: str | None) -> str | None:
    """Have systemd move this process into a scope of its own; return its name, None without one.

    At shutdown the unit BEFORE is stopped first. That systemd is not there, or does not want to,
    is no error: where nothing ends services with all that is in them nothing is missing.
    """
    address = _ROOTS if os.geteuid() == 0 else _users()
    name = f"ovl-linkd-exec-{os.getpid()}.scope"
    properties: list[tuple[str, str, Value]] = [
        ("Description", "s", "Supervisor of ovl-linkd exec"),
        ("PIDs", "au", [os.getpid()]),
        ("CollectMode", "s", "inactive-or-failed"),
        # It ends by itself with whom it serves, and by nothing else: there is nothing to wait for.
        ("TimeoutStopUSec", "t", 1_000_000),
    ]
    if before:
        properties.append(("Before", "as", [before]))
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as systemd:
            systemd.settimeout(_SECONDS)
            systemd.connect(address)
            # What it takes for our number is another process in another PID namespace.
            peer = systemd.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if struct.unpack("=3i", peer)[0] <= 0:
                return None
            _authenticate(systemd)
            systemd.sendall(_start_transient_unit(name, properties))
            if not _succeeded(systemd):
                return None
    except (OSError, ValueError):
        return None
    return name if _arrived(name) else None


def _users() -> str:
    return os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}") + "/systemd/private"


def _cgroup() -> str:
    try:
        with open("/proc/self/cgroup") as file:
            return file.read()
    except OSError:
        return ""


def _arrived(name: str) -> bool:
    """Wait until this process is in the scope: the answer only says that there will be one."""
    deadline = time.monotonic() + _SECONDS
    while name not in _cgroup():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


# --- D-Bus -----------------------------------------------------------------------------------


def _authenticate(bus: socket.socket) -> None:
    bus.sendall(b"\0AUTH EXTERNAL %s\r\n" % str(os.geteuid()).encode().hex().encode())
    answer = b""
    while not answer.endswith(b"\r\n"):
        more = bus.recv(256)
        if not more:
            raise ValueError("hung up")
        answer += more
    if not answer.startswith(b"OK "):
        raise ValueError("refused")
    bus.sendall(b"BEGIN\r\n")


def _start_transient_unit(name: str, properties: list[tuple[str, str, Value]]) -> bytes:
    body = _Message()
    body.put("s", name)
    body.put("s", "fail")
    with body.array(8):
        for key, kind, value in properties:
            body.align(8)
            body.put("s", key)
            body.variant(kind, value)
    with body.array(8):  # of further units
        pass
    head = _Message(struct.pack("<4B2I", ord("l"), _METHOD_CALL, 0, 1, len(body.data), 1))
    with head.array(8):
        for number, kind, text in (
            (1, "o", "/org/freedesktop/systemd1"),
            (2, "s", "org.freedesktop.systemd1.Manager"),
            (3, "s", "StartTransientUnit"),
            (6, "s", "org.freedesktop.systemd1"),
            (8, "g", "ssa(sv)a(sa(sv))"),
        ):
            head.align(8)
            head.data.append(number)
            head.variant(kind, text)
    head.align(8)
    return bytes(head.data + body.data)


class _Message:
    """A part of a message that is being put together; little-endian."""

    def __init__(self, start: bytes = b"") -> None:
        self.data = bytearray(start)

    def align(self, to: int) -> None:
        self.data += bytes(-len(self.data) % to)

    def variant(self, kind: str, value: Value) -> None:
        self.put("g", kind)
        self.put(kind, value)

    def put(self, kind: str, value: Value) -> None:
        if isinstance(value, list):
            with self.array(4):
                for each in value:
                    self.put(kind[1:], each)
        elif isinstance(value, int):
            size, form = (8, "<Q") if kind == "t" else (4, "<I")
            self.align(size)
            self.data += struct.pack(form, value)
        elif kind == "g":
            self.data += struct.pack("B", len(value)) + value.encode() + b"\0"
        else:
            self.align(4)
            self.data += struct.pack("<I", len(value.encode())) + value.encode() + b"\0"

    @contextlib.contextmanager
    def array(self, alignment: int) -> Iterator[None]:
        """What is put inside is the array's, whose elements begin at multiples of ALIGNMENT."""
        self.align(4)
        at = len(self.data)
        self.data += bytes(4)
        self.align(alignment)
        start = len(self.data)
        yield
        struct.pack_into("<I", self.data, at, len(self.data) - start)


def _succeeded(bus: socket.socket) -> bool:
    """Read up to the answer; whether it is not an error. There may be signals before it."""
    with bus.makefile("rb") as stream:
        while True:
            head = stream.read(16)
            if len(head) < 16:
                return False
            order = "<" if head[:1] == b"l" else ">"
            body, _, fields = struct.unpack(order + "3I", head[4:])
            stream.read(fields + -fields % 8 + body)
            if head[1] in (_METHOD_RETURN, _ERROR):
                return head[1] == _METHOD_RETURN
