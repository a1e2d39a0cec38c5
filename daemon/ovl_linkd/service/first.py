"""What goes before everything else in the event loop: it isn't even put in line."""

import asyncio
import os
import select
import selectors
from collections.abc import Callable
from contextlib import suppress

_MOST = 512  # that are ready, at a time: there are no more clients (socket.MOST_CONNECTIONS)


class First(selectors.EpollSelector):
    """The event loop's selector, which answers some descriptors by itself.

    By way of the loop a callback waits for what became ready before it, and even alone takes a
    fifth of a repair to be reached.

    All of them are in one epoll, and what goes first stays there, or each client would have us wait
    for a lock of the whole system's: whoever adds something to an epoll that is in another one, or
    an epoll to any, takes epnested_mutex (fs/eventpoll.c), which every user can hold for 0.1 s at a
    time, again and again.
    """

    def __init__(self) -> None:
        """Raises OSError where no descriptor is left."""
        super().__init__()
        self._answers: dict[int, Callable[[], None]] = {}
        # The same epoll once more, since Python's selector keeps its own to itself.
        self._epoll = select.epoll.fromfd(os.dup(self.fileno()))

    def begin(self, descriptor: int, answer: Callable[[], None]) -> None:
        """Call ANSWER whenever DESCRIPTOR is readable, from now on. Raises OSError."""
        try:
            self._epoll.modify(descriptor, select.EPOLLIN)
        except FileNotFoundError:
            self._epoll.register(descriptor, select.EPOLLIN)
        self._answers[descriptor] = answer

    def end(self, descriptor: int) -> None:
        """Don't any more, if it ever was."""
        if self._answers.pop(descriptor, None):
            with suppress(OSError):  # as the loop does where it no longer waits for something
                self._epoll.modify(descriptor, 0)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As the loop calls it."""
        told = self._epoll.poll(timeout, _MOST)
        for descriptor, _ in told:
            if answer := self._answers.get(descriptor):
                try:
                    answer()
                except Exception as error:
                    _trouble(error)
        # Who waits for them is asked for only now: an answer may have closed what was ready, too.
        keys = self.get_map()
        return [
            (key, _kinds(events) & key.events)
            for descriptor, events in told
            if descriptor not in self._answers and (key := keys.get(descriptor))
        ]

    def close(self) -> None:
        """Give all descriptors back."""
        self._epoll.close()
        super().close()


def _kinds(events: int) -> int:
    """EVENTS of epoll's as a selector tells them: who reads or writes finds out what is wrong."""
    readable = selectors.EVENT_READ if events & ~select.EPOLLOUT else 0
    return readable | (selectors.EVENT_WRITE if events & ~select.EPOLLIN else 0)


def _trouble(error: Exception) -> None:
    """Have the loop say it, as if one of its callbacks had raised ERROR."""
    context = {"message": "Exception in what goes first", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
