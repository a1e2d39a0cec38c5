"""What the service tells systemd, and how it logs. The only module that imports systemd.

Without systemd all of it is harmless: nothing is notified, and the log goes to standard error.

The journal's native protocol is spoken here and not by systemd.journal, because sd_journal_send(3)
says nothing when there is no journald, so that the message is lost, and waits when journald does
not read and its queue is full (unix(7): ten datagrams): a link that is gone would wait with it.
"""

import logging
import os
import select
import socket
import sys
from collections.abc import Mapping
from typing import Any

from systemd import daemon

from ovl_linkd import journal
from ovl_linkd.text import printable

#: syslog(3) priorities, which the journal reads off the start of a line (sd-daemon(3))
_PRIORITIES = {logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


def notify(*fields: str, certain: bool = False) -> bool:
    """Send FIELDS (sd_notify(3)) to the service manager, if there is one; False if that failed.

    A notify socket that is gone, or a manager that stalls, must not stop a repair: errors are
    passed over, and what the manager's queue has no room for is dropped. What it waits for is
    ``certain``, and may take its time.
    """
    text = "\n".join(fields)
    try:
        if certain:
            daemon.notify(text)
        elif address := os.environ.get("NOTIFY_SOCKET"):
            _send(text, "\0" + address[1:] if address.startswith("@") else address)
    except (OSError, MemoryError):  # the latter is systemd-python's word for ENOMEM
        return False
    return True


def _send(text: str, address: str) -> None:
    """What sd_notify(3) does, but without waiting: the queue may hold ten datagrams (unix(7))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        sender.sendto(text.encode(), address)


def passed_socket(path: str) -> socket.socket | None:
    """The socket that listens at PATH, if a socket unit passes it on (sd_listen_fds(3)); once."""
    found = None
    for number in daemon.listen_fds():
        if found is None and daemon.is_socket_unix(number, socket.SOCK_STREAM, 1, path):
            found = socket.socket(fileno=number)
        else:
            os.close(number)
            text = "what a socket unit passes on does not listen at %s (control-socket), ignoring"
            logging.getLogger("ovl-linkd").warning(text, path)
    return found


def watchdog_interval() -> float | None:
    """Seconds between two WATCHDOG=1, half of what the unit allows; None without a watchdog."""
    try:
        microseconds = int(os.environ["WATCHDOG_USEC"])
        meant = int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return microseconds / 2e6 if meant == os.getpid() and microseconds > 0 else None


def open_log() -> logging.Logger:
    """The logger of the service: the journal, if standard error leads there; standard error else.

    A record's attribute ``journal``, a mapping of names to strings, becomes fields of the entry.
    """
    logger = logging.getLogger("ovl-linkd")
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:] = [Log(sys.__stderr__.fileno() if sys.__stderr__ else None)]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.raiseExceptions = False  # an error of the log must not stop a repair
    return logger


class Log(logging.Handler):
    """Writes to the journal, where STDERR leads there; to the descriptor STDERR in all other cases.

    Never waits: what neither takes at once is counted, and the count is said when one does again.
    """

    def __init__(self, stderr: int | None, journal: str = journal.SOCKET) -> None:
        super().__init__()
        self._stderr = stderr
        self._address = journal
        self._lost = 0
        self._socket: socket.socket | None = None
        if stderr is not None and leads_to_journal(stderr):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.setFormatter(Printable())

    def emit(self, record: logging.LogRecord) -> None:
        """Log RECORD."""
        text = self.format(record)
        priority = _PRIORITIES.get(record.levelno, 6)
        fields: Mapping[str, str] = getattr(record, "journal", {})
        if not self._log(priority, text, fields):
            self._lost += 1
        elif self._lost:
            lost, self._lost = self._lost, 0
            if not self._log(4, f"{lost} messages before this one are lost: nobody took them", {}):
                self._lost = lost

    def close(self) -> None:
        """Give the socket back."""
        if self._socket:
            self._socket.close()
        super().close()

    def _log(self, priority: int, text: str, fields: Mapping[str, str]) -> bool:
        if self._socket is None:
            return self._write("".join(f"ovl-linkd: {line}\n" for line in text.splitlines()))
        message = journal.entry(
            {"MESSAGE": text, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "ovl-linkd", **fields}
        )
        try:
            # By name each time: a journald that was restarted has another socket there.
            self._socket.sendto(message, self._address)
        except OSError:
            # Too long, nobody there, or a queue that is full: then by the stream that systemd
            # opened to the same journal, which loses the fields but not the message.
            return self._write("".join(f"<{priority}>{line}\n" for line in text.splitlines()))
        return True

    def _write(self, text: str) -> bool:
        """Write to standard error if that won't wait; whether it was written."""
        if self._stderr is None:
            return False
        try:
            poll = select.poll()
            poll.register(self._stderr, select.POLLOUT)
            if not poll.poll(0):
                return False
            data = text.encode("utf-8", "backslashreplace")
            if len(data) > select.PIPE_BUF:  # what a pipe that is ready takes without waiting
                data = data[: select.PIPE_BUF - 4] + "…\n".encode()
            os.write(self._stderr, data)
        except OSError:
            return False
        return True


def leads_to_journal(descriptor: int) -> bool:
    """Whether DESCRIPTOR is what $JOURNAL_STREAM names (systemd.exec(5)), and not redirected."""
    try:
        status = os.fstat(descriptor)
        return os.environ["JOURNAL_STREAM"] == f"{status.st_dev}:{status.st_ino}"
    except (KeyError, OSError):
        return False


class Printable(logging.Formatter):
    """Lets no path, and no text of a symlink, forge a line or steer a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(map(printable, super().formatException(ei).splitlines()))
