"""The supervisor as a whole: a guard, its workers, and what others learn of them."""

import datetime
import gc
import os
import time
from collections.abc import Callable, Sequence

from ovl_linkd import supervisors
from ovl_linkd.intercept import seccomp
from ovl_linkd.intercept.guard import Guard
from ovl_linkd.intercept.names import KnownNames
from ovl_linkd.intercept.saying import Voice
from ovl_linkd.intercept.slots import Counts, Slots
from ovl_linkd.intercept.worker import Surroundings
from ovl_linkd.overlay import limits
from ovl_linkd.supervisors import Supervisor

_PUBLISHED_EVERY = 1.0  # seconds


def supervise(
    listener: int,
    begin: Callable[[], None],
    command: Sequence[str],
    pid: int,
    names: KnownNames,
    stderr: int | None,
) -> None:
    """Serve LISTENER for COMMAND, process PID, until nobody is under the filter any more.

    BEGIN is called when calls are answered. STDERR, unless None, is told each decision as long as
    COMMAND lives.
    """
    seccomp.wake_quickly(listener)
    woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    of_kernel = limits.of_this_kernel()

    around = Surroundings(
        listener=listener,
        slots=Slots(of_kernel.mount + 1),
        limits=of_kernel,
        names=names,
        poke=lambda: os.eventfd_write(woken, 1),
        voice=Voice(stderr),
    )
    state = _State(command, pid)
    guard = Guard(around, woken, state, None if stderr is None else os.pidfd_open(pid))
    gc.collect()
    gc.freeze()  # what is here now stays: looked at in each process, it would be copied there
    guard.start()
    state.publish(Counts(0, 0, 0))
    begin()
    guard.run()


class _State:
    """The file that tells others of this supervisor."""

    def __init__(self, command: Sequence[str], pid: int) -> None:
        since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._supervisor = Supervisor(0, 0, list(command), pid, since, 0, 0, 0)
        self._next = 0.0

    def publish(self, counts: Counts) -> bool:
        """Tell COUNTS; False if that was done a moment ago, and has to be done later."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _PUBLISHED_EVERY
        own = os.getpid()
        if own != self._supervisor.pid:  # also after the guard before this one was killed
            born = supervisors.birth(own) or 0
            self._supervisor = self._supervisor._replace(pid=own, born=born)
            supervisors.sweep()
        try:
            supervisors.write(self._supervisor._replace(**counts._asdict()))
        except OSError:
            pass  # not root, or /run can't be written: then nobody learns of us
        return True

    def remove(self) -> None:
        """Tell nothing any more."""
        supervisors.remove(self._supervisor.pid)
