"""Descriptors that nobody here may close, since whoever is the last to do so may wait for ever."""

import os
import signal
from contextlib import suppress
from typing import NoReturn

MOST = 256  # links need descriptors, too
MOST_CHILDREN = 3  # at a time that wait; the unit's TasksMax allows for some more


class Kept(list[int]):
    """Connections to clients with which a descriptor came, by their own descriptors.

    A child lets them go: should it have to wait, it has nothing else to do.
    """

    def __init__(self) -> None:
        super().__init__()
        self._children: list[int] = []

    @property
    def full(self) -> bool:
        """Whether there are as many as there may be."""
        return len(self) >= MOST

    def waiting(self) -> int:
        """How many children have not come to their end."""
        self._children = [child for child in self._children if not _ended(child)]
        return len(self._children)

    def let_go(self) -> None:
        """Give all of them to a child. They stay if there are too many already who wait."""
        if not self or self.waiting() >= MOST_CHILDREN:
            return
        with suppress(OSError):
            reader, writer = os.pipe()
            try:
                child = os.fork()
                if child == 0:
                    wait_and_end(reader, self)
                self._children.append(child)
                while self:
                    os.close(self.pop())  # the child still has it
            finally:
                os.close(reader)
                os.close(writer)  # now it may


def _ended(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] != 0
    except ChildProcessError:  # with SIGCHLD ignored the kernel has cleared it away
        return True


def wait_and_end(reader: int, kept: list[int]) -> NoReturn:
    """The child: have nothing but KEPT while it waits, least of all the locks of the daemon."""
    try:
        # It is the parent's: a signal meant for this process must not wake that one's loop.
        signal.set_wakeup_fd(-1)
        for each in map(int, os.listdir("/proc/self/fd")):
            if each != reader and each not in kept:
                with suppress(OSError):
                    os.close(each)
        os.read(reader, 1)  # until nobody else has them
    finally:
        os._exit(0)
