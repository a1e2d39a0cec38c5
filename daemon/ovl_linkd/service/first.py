"""What goes before everything else in the event loop: it isn't even put in line."""

import asyncio
import select
import selectors
from collections.abc import Callable


class First(selectors.EpollSelector):
    """The event loop's selector, which answers some descriptors by itself.

    By way of the loop a callback waits for what became ready before it, and even alone takes a
    fifth of a repair to be reached. What is added to the loop as usual is polled twice, and so
    must not lose its news by that, as the mount table does (Watch.mounts_fileno()).
    """

    def __init__(self) -> None:
        """Raises OSError where no descriptor is left."""
        super().__init__()
        self._answers: dict[int, Callable[[], None]] = {}
        self._all = select.epoll()  # in it, all that the loop waits for is one
        self._all.register(self.fileno(), select.EPOLLIN)

    def begin(self, descriptor: int, answer: Callable[[], None]) -> None:
        """Call ANSWER whenever DESCRIPTOR is readable, from now on. Raises OSError."""
        self._all.register(descriptor, select.EPOLLIN)
        self._answers[descriptor] = answer

    def end(self, descriptor: int) -> None:
        """Don't any more, if it ever was."""
        if self._answers.pop(descriptor, None):
            try:
                self._all.unregister(descriptor)
            except OSError:
                pass  # as the loop does where it no longer waits for something

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As the loop calls it."""
        others = False
        for descriptor, _ in self._all.poll(timeout, 3):
            if answer := self._answers.get(descriptor):
                try:
                    answer()
                except Exception as error:
                    _trouble(error)
            else:
                others = True
        return super().select(0) if others else []

    def close(self) -> None:
        """Give all descriptors back."""
        self._all.close()
        super().close()


def _trouble(error: Exception) -> None:
    """Have the loop say it, as if one of its callbacks had raised ERROR."""
    context = {"message": "Exception in what goes first", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
