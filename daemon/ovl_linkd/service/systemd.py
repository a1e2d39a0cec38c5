"""What the service tells systemd, and how it logs. The only module that imports systemd.

Without systemd all of it is harmless: nothing is notified, and the log goes to standard error.
"""

import logging
import os
import socket
import sys

from systemd import daemon

from ovl_linkd.text import printable

#: syslog(3) priorities, which the journal reads off the start of a line (sd-daemon(3))
_PRIORITIES = {logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


def notify(*fields: str, certain: bool = False) -> None:
    """Send FIELDS (sd_notify(3)) to the service manager, if there is one.

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
    except OSError:
        pass


def _send(text: str, address: str) -> None:
    """What sd_notify(3) does, but without waiting: the queue may hold ten datagrams (unix(7))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        sender.sendto(text.encode(), address)


def watchdog_interval() -> float | None:
    """Seconds between two WATCHDOG=1, half of what the unit allows; None without a watchdog."""
    try:
        microseconds = int(os.environ["WATCHDOG_USEC"])
        meant = int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return microseconds / 2e6 if meant == os.getpid() and microseconds > 0 else None


class Printable(logging.Formatter):
    """Lets no path, and no text of a symlink, forge a line or steer a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = printable(record.message)
        return super().formatMessage(record)


class _Priority(Printable):
    """Puts the priority in front of each line, for the journal to take off again."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        mark = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(mark + line for line in text.splitlines())


def open_log() -> logging.Logger:
    """The logger of the service: standard error, with priorities where the journal reads it."""
    logger = logging.getLogger("ovl-linkd")
    handler = logging.StreamHandler(sys.stderr)
    plain = "JOURNAL_STREAM" not in os.environ
    handler.setFormatter(Printable("ovl-linkd: %(message)s") if plain else _Priority())
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.raiseExceptions = False  # a closed standard error must not stop a repair
    return logger
