"""The control socket itself: made once, served to everybody, and no client at another's expense.

What is spoken on it is control.py's.
"""

import asyncio
import errno
import os
import socket
import stat
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from ovl_linkd.service.claim import Claim, Identity, identity
from ovl_linkd.service.peer import Peer, Plain, refuse_descriptors, stop_listening

MOST_CONNECTIONS = 256  # in all
MOST_UNTRUSTED = 192  # of users other than root and our own: they can't keep those out,
MOST_OF_ONE_USER = 32  # nor one of them the others
TOO_MANY_KEPT = "clients have sent it too many descriptors that can't be closed, restart the daemon"
_BACKLOG = 64
# Seconds until the next one is accepted, after one was refused: who comes again and again must not
# have all our time, nor others wait long behind all of them that the backlog holds.
REFUSED_REST = 0.001
EXHAUSTED_REST = 1.0  # or none could be accepted
NEW = ".new"  # is added to the path while a socket is made
_GONE = {errno.EAGAIN, errno.ECONNABORTED, errno.EINTR}  # accept(2): who came is gone again


class Connection(NamedTuple):
    """A client that is served: a future that is done when it has gone, and how to send it away."""

    closed: "asyncio.Future[None]"
    close: Callable[[], None]


Attach = Callable[[socket.socket, Peer], Connection]


class ControlSocket:
    """A listening socket at ``path``, mode 0666; ``attach`` takes over each connection.

    ``trouble`` is told why nobody is let in, each time, and None when somebody was.
    """

    def __init__(self, path: str, attach: Attach, trouble: Callable[[str | None], None]) -> None:
        self.path = path
        self._attach = attach
        self._trouble = trouble
        self._lets_in = True  # the last one who came
        self._socket: socket.socket | None = None
        self._identity: Identity | None = None
        self._claim = Claim(path)
        self._passed = False
        self._clients: Counter[int] = Counter()
        self._connections: set[Connection] = set()

    def open(self, passed: socket.socket | None = None) -> None:
        """Take over PASSED, which listens at the path; or bind, replacing a stale socket.

        Raises UserError if a daemon listens there; FileExistsError if something that we did not
        make is there, and other OSErrors if the directory can't be written. Call serve() to accept.
        """
        try:
            os.makedirs(os.path.dirname(self.path), 0o755, exist_ok=True)
            self._claim.take()
        except OSError:
            if not passed:
                raise  # where there is no room to make one, one that is passed will do
        there = identity(self.path)
        self._passed = passed is not None and there not in (None, self._claim.made)
        if passed and self._passed:
            passed.setblocking(False)
            self._socket, self._identity = passed, there
            return
        if passed:
            passed.close()  # what lies at the path now, if anything, is not this socket
        self._claim.clear()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._bind(listener)
        except OSError:
            listener.close()
            raise
        self._socket = listener
        self._identity = identity(self.path)

    def _bind(self, listener: socket.socket) -> None:
        """Have LISTENER at the path, from the beginning as one that answers, and known for ours.

        Bound at the path itself, it would be a stranger's to whoever comes after a kill that hits
        us before it is written down. Raises OSError, FileExistsError if something came there.
        """
        new = f"{self.path}{NEW}"
        _discard(new)
        # Its mode by the umask (unix(7)), and no chmod(2) afterwards: where others may write, the
        # name might lead to a file of somebody's by then.
        umask = os.umask(0o111)
        try:
            listener.bind(new)
        finally:
            os.umask(umask)
        try:
            listener.listen(_BACKLOG)
            self._claim.record(identity(new))
            os.link(new, self.path)  # and not rename(2), which asks nobody
        finally:
            _discard(new)

    def serve(self) -> None:
        """Accept connections from now on, in the running event loop. Raises OSError."""
        if self._socket is None:
            return
        try:
            refuse_descriptors(self._socket)
            asyncio.get_running_loop().add_reader(self._socket, self._accept)
        except OSError:
            self._stop()  # or it would pass for a socket that is served
            raise

    def ensure(self) -> None:
        """Bind anew if something, a cleaner perhaps, removed the socket. Raises as open()."""
        if self._lets_in:
            self._trouble(None)  # not by each who comes, or those who don't would fill the log
        if self._socket is None or identity(self.path) != self._identity:
            self._stop()
            self.open()
            self.serve()

    def close(self) -> None:
        """Stop listening, remove the socket if we made it, send all clients away."""
        if self._socket and not self._passed and identity(self.path) == self._identity:
            with suppress(OSError):  # such as EROFS: the next daemon knows it for stale
                os.unlink(self.path)
        self._stop()
        self._claim.give_up()
        for connection in self._connections:
            connection.close()

    def _stop(self) -> None:
        if self._socket:
            asyncio.get_running_loop().remove_reader(self._socket)
            if self._passed:
                self._socket.close()  # it is systemd's, too, and goes on
            else:
                stop_listening(self._socket)
            self._socket = None

    def _accept(self) -> None:
        """Take one connection; the event loop comes back for the next, and for repairs between."""
        assert self._socket
        try:
            if Plain.kept.full:
                Plain.kept.let_go()
            if Plain.kept.full:
                raise OSError(errno.EMFILE, TOO_MANY_KEPT)
            connection = Plain(self._socket.accept()[0].detach())
        except OSError as error:
            if error.errno not in _GONE:
                # Out of descriptors, or forbidden by a security module: whoever comes stays in the
                # queue, would have us find the socket readable again at once, and so on.
                self._refuse(error)
                self._rest(EXHAUSTED_REST)
            return
        try:
            connection.setblocking(False)
            peer = Peer(connection)
            if self._full(peer):
                connection.close()
                self._rest(REFUSED_REST)
                return
            client = self._attach(connection, peer)
        except OSError as error:  # such as ENOMEM; and who is kept waiting for nothing waits long
            self._refuse(error)
            connection.close()
            return
        self._lets_in = True
        self._clients[peer.uid] += 1
        self._connections.add(client)
        client.closed.add_done_callback(lambda _: self._closed(client, peer.uid))

    def _refuse(self, error: OSError) -> None:
        self._lets_in = False
        self._trouble(f"the control socket lets nobody in: {error.strerror}")

    def _rest(self, seconds: float) -> None:
        """Accept nobody for SECONDS."""
        assert self._socket
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        loop.call_later(seconds, self.serve)

    def _full(self, peer: Peer) -> bool:
        """Whether there is no room for one more connection of PEER's user."""
        of_all = self._clients.total()
        if peer.trusted:
            return of_all >= MOST_CONNECTIONS
        return of_all >= MOST_UNTRUSTED or self._clients[peer.uid] >= MOST_OF_ONE_USER

    def _closed(self, client: Connection, uid: int) -> None:
        self._connections.discard(client)
        self._clients[uid] -= 1
        if not self._clients[uid]:
            del self._clients[uid]


def _discard(path: str) -> None:
    """Remove the socket at PATH, a temporary name of ours; nothing else. Raises OSError."""
    if os.path.lexists(path) and stat.S_ISSOCK(os.lstat(path).st_mode):
        os.unlink(path)
