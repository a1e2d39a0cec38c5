"""What a supervisor says: to the journal, or syslog, and to standard error for who asked for it.

The journal's socket is found by name at each message, so that a journald that was restarted gets
it. Nothing here waits: what can't be said at once is lost.
"""

import os
import select
import socket

from ovl_linkd import journal
from ovl_linkd.text import printable

#: what happened -> MESSAGE_ID of the journal's entry, as those of service/report.py
MESSAGE_IDS = {
    "mount-refused": "bacfd0c01c4249218d8fcc8dec19b402",
    "supervisor-trouble": "9fca6a1e1463499fb71711e493e01a74",
}

_SYSLOG = "/dev/log"
_WARNING = 4  # syslog(3)
_FROM_DAEMON = 3 << 3


class Voice:
    """STDERR, a descriptor or None, is told everything: then ``verbose`` is true."""

    def __init__(self, stderr: int | None) -> None:
        printable("\x1b")  # loads the codec, which an upgrade may have taken away later on
        self._stderr = stderr
        self.verbose = stderr is not None

    def tell(self, text: str) -> None:
        """Tell who asked for it of a call that got what it wanted."""
        if self._stderr is not None:
            line = f"ovl-linkd exec: {printable(text)}\n".encode("utf-8", "backslashreplace")
            poll = select.poll()
            poll.register(self._stderr, select.POLLOUT)
            try:
                # A pipe that is ready takes this much without waiting for its reader.
                if poll.poll(0):
                    os.write(self._stderr, line[: select.PIPE_BUF])
            except OSError:
                pass  # nobody reads it any more

    def fall_silent(self) -> None:
        """Tell standard error nothing any more, nor keep it open."""
        if self._stderr is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, self._stderr)
            os.close(nowhere)

    def refused(self, text: str) -> None:
        """Tell everybody of a call that was refused."""
        self._warn("mount-refused", text)

    def trouble(self, text: str) -> None:
        """Tell everybody of something that should not be."""
        self._warn("supervisor-trouble", text)

    def _warn(self, what: str, text: str) -> None:
        self.tell(text)
        text = printable(text)
        entry = {
            "MESSAGE": text,
            "PRIORITY": str(_WARNING),
            "SYSLOG_IDENTIFIER": "ovl-linkd",
            "MESSAGE_ID": MESSAGE_IDS[what],
        }
        syslog = f"<{_FROM_DAEMON | _WARNING}>ovl-linkd exec: {text}"
        messages = (
            (journal.entry(entry), journal.SOCKET),
            (syslog.encode("utf-8", "backslashreplace"), _SYSLOG),
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            for message, address in messages:
                try:
                    sender.sendto(message, address)
                    return
                except OSError:
                    continue
