"""What one client says on the control socket: its calls one by one, each when it has its turn."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from ovl_linkd.service.peer import Peer
from ovl_linkd.service.turns import Turns

MOST_BYTES = 256 * 1024  # of one call: 131,060 bytes of options fit
MOST_METHOD = 255  # characters of its name; to see whether 100,000 are one takes long
# Of one of a stranger's, so that it takes a millisecond or so. 500 layers fit, each with 120 bytes,
# nine components, and an option or an escape of its own.
MOST_OF_A_STRANGER = 65_536  # bytes
MOST_MARKS = 1_200  # of what makes JSON, options and escapes
MOST_PARTS = 5_100  # of paths, and paths
_MARKS, _PARTS = b",\\[{", b"/:"
# No call has a number, and to make an int of many digits takes long; so does to make one of these.
_JSON = json.JSONDecoder(parse_int=float)


class Transport(Protocol):
    """What brings the bytes, as asyncio's transports do."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def is_closing(self) -> bool: ...
    def close(self) -> None: ...


class Calls:
    """The calls of PEER, which TRANSPORT brings; ``answer`` gives a future if that isn't the end.

    What is said is kept as it came until it has its turn: to tell messages apart and decode them
    takes far more time than to read them, above all where they are none. The next one is looked at
    when the one before is answered. What is no call, or too long, ends the connection.
    """

    def __init__(
        self,
        turns: Turns,
        peer: Peer,
        transport: Transport,
        answer: Callable[[dict[str, Any]], "asyncio.Future[None] | None"],
    ) -> None:
        self._turns = turns
        self._peer = peer
        self._transport = transport
        self._answer = answer
        self._unread = bytearray()
        self._busy = False

    def said(self, data: bytes) -> None:
        """DATA came."""
        self._unread += data
        whole = 0 in data and not self._busy
        if not whole:
            self._turns.catch_up()  # a turn of the loop may bring 256 of these: the links go first
        if not self._busy:
            self._go_on(whole)

    def _go_on(self, whole: bool) -> None:
        """Answer the first message if there is a WHOLE one; read on if not."""
        self._busy = whole
        if self._transport.is_closing():
            self._unread.clear()
        elif whole:
            self._answer_one()
        elif len(self._unread) > MOST_BYTES:
            self._transport.close()
        else:
            self._transport.resume_reading()

    def _answer_one(self) -> None:
        end = self._unread.find(0)
        message = bytes(self._unread[:end])
        del self._unread[: end + 1]
        answered = self._turns.take(partial(self._understand, message), self._peer)
        if answered or self._unread:
            self._transport.pause_reading()
        if answered:
            answered.add_done_callback(self._answered)
        elif self._unread:
            asyncio.get_running_loop().call_soon(self._answered)
        else:
            self._answered()

    def _answered(self, _: "asyncio.Future[None] | None" = None) -> None:
        self._go_on(whole=0 in self._unread)

    def _understand(self, message: bytes) -> "asyncio.Future[None] | None":
        if self._peer.trusted or _is_soon_understood(message):
            try:
                call = _JSON.decode(message.decode(errors="surrogatepass"))
            except (ValueError, RecursionError):  # the latter where it is too deep
                call = None
            if isinstance(call, dict) and len(str(call.get("method"))) <= MOST_METHOD:
                return self._answer(call)
        self._transport.close()
        return None


def _is_soon_understood(message: bytes) -> bool:
    if len(message) > MOST_OF_A_STRANGER:
        return False  # and to count would take long as well
    marks, parts = (len(message) - len(message.translate(None, each)) for each in (_MARKS, _PARTS))
    return marks <= MOST_MARKS and parts <= MOST_PARTS
