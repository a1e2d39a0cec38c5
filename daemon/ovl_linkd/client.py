"""A small blocking client of the control socket (Varlink, UAPI.20).

Standard library only, and of that as little as possible: `ovl-linkd status` starts with it.
One call a connection; messages are JSON objects that end in NUL.
"""

import json

# The C part of the socket module is all we need; the rest of it takes as long to import as
# everything else here together.
from _socket import AF_UNIX, SO_RCVTIMEO, SO_SNDTIMEO, SOCK_STREAM, SOL_SOCKET, socket
from collections.abc import Iterator
from struct import pack
from typing import Any

INTERFACE = "org.ovl-linkd.Control"
TIMEOUT = 5.0  # seconds without a byte
_MOST = 64 * 1024 * 1024  # bytes of one reply: 10,000 links are some 4 MB


class NotRunning(Exception):
    """Nobody listens at the socket."""


class NoAnswer(Exception):
    """Somebody listens, or may, but a sensible answer can't be had."""


class CallError(Exception):
    """The daemon answered with a Varlink error: its ``name`` and its ``parameters``."""

    def __init__(self, name: str, parameters: dict[str, Any]) -> None:
        super().__init__(name)
        self.name = name.removeprefix(INTERFACE + ".")
        self.parameters = parameters


def call(
    path: str, method: str, timeout: float | None = TIMEOUT, **parameters: Any
) -> dict[str, Any]:
    """Call METHOD of the control interface at the socket PATH; the reply's parameters.

    Raises NotRunning, NoAnswer, CallError. ``timeout`` in seconds, None for none.
    """
    for reply in _replies(path, method, parameters, more=False, timeout=timeout):
        return reply
    raise NoAnswer("the daemon closed the connection without an answer")


def listens(path: str) -> bool:
    """Whether somebody listens at PATH, or may: True where that can't be told."""
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        _limit(connection, SO_SNDTIMEO, TIMEOUT)
        _connect(connection, path)
    except NotRunning:
        return False
    except (NoAnswer, BlockingIOError):
        pass
    finally:
        connection.close()
    return True


def follow(path: str, method: str, **parameters: Any) -> Iterator[dict[str, Any]]:
    """Call METHOD with `more`: its replies one by one, until the daemon ends. Raises as call()."""
    return _replies(path, method, parameters, more=True, timeout=None)


def _replies(
    path: str, method: str, parameters: dict[str, Any], more: bool, timeout: float | None
) -> Iterator[dict[str, Any]]:
    request = {"method": f"{INTERFACE}.{method}", "parameters": parameters, "more": more}
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        # The kernel's time-outs, since a connect(2) that must not block fails at once where others
        # have filled the backlog; a blocking one waits for its turn (unix(7)).
        _limit(connection, SO_SNDTIMEO, TIMEOUT)
        _limit(connection, SO_RCVTIMEO, timeout)
        _connect(connection, path)
        connection.sendall(json.dumps(request).encode() + b"\0")
        for message in _messages(connection):
            yield _parameters(message)
            if not message.get("continues"):
                return
    except BlockingIOError:
        raise NoAnswer(f"the daemon does not answer within {timeout or TIMEOUT:g} s") from None
    except OSError as error:
        raise NoAnswer(f"the connection broke: {error.strerror or error}") from None
    finally:
        connection.close()


def _limit(connection: socket, which: int, seconds: float | None) -> None:
    """Set a time-out; None is none (socket(7): a struct timeval of zero)."""
    microseconds = int((seconds or 0) * 1e6)
    connection.setsockopt(
        SOL_SOCKET, which, pack("ll", microseconds // 1_000_000, microseconds % 1_000_000)
    )


def _connect(connection: socket, path: str) -> None:
    try:
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise NotRunning(f"nobody listens at {path}") from None
    except BlockingIOError:
        raise
    except OSError as error:
        raise NoAnswer(f"{error.strerror or error}: {path}") from None


def _parameters(message: dict[str, Any]) -> dict[str, Any]:
    parameters = message.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise NoAnswer("the daemon's answer is not Varlink")
    if error := message.get("error"):
        raise CallError(str(error), parameters)
    return parameters


def _messages(connection: socket) -> Iterator[dict[str, Any]]:
    """Decode what comes, message by message, until the other side closes."""
    buffer = bytearray()
    while data := connection.recv(65_536):
        buffer += data
        while (end := buffer.find(0)) >= 0:
            try:
                message = json.loads(buffer[:end])
            except ValueError:
                message = None
            if not isinstance(message, dict):
                raise NoAnswer("the daemon's answer is not Varlink")
            yield message
            del buffer[: end + 1]
        if len(buffer) > _MOST:
            raise NoAnswer("the daemon's answer has no end")
