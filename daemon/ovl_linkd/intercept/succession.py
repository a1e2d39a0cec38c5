"""Who keeps watch when the guard is killed: one of its workers.

The kernel sends each of them a signal then (PR_SET_PDEATHSIG), and frees the lock that the guard
held: who gets it is the next one. A lock of fcntl(2) is never inherited, and can't be left behind.
"""

import ctypes
import fcntl
import os
import select
import signal

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SECONDS = 1.0

_libc = ctypes.CDLL(None, use_errno=True)


class Succession:
    """Shared by the guard and its workers; made by the first guard, who holds the office."""

    def __init__(self) -> None:
        self._office = os.memfd_create("ovl-linkd-guard")
        self._vacant = False
        self._take()
        signal.signal(signal.SIGUSR1, self._told)

    def wait_for_it(self, guard: int) -> None:
        """Be told when GUARD, the parent of this process, dies.

        If it did before it could note who this is, and there is another by now, that one doesn't
        know of this process, which ends: its slot will be somebody else's.
        """
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1, 0, 0, 0)
        if os.getppid() != guard:
            if not self._take():
                os._exit(1)
            self._vacant = True

    def is_mine(self) -> bool:
        """Whether the guard is dead and this process the next one. If so it is from here on."""
        if not self._vacant:
            return False
        self._vacant = False
        return self._take()

    def _told(self, *_: object) -> None:
        self._vacant = True

    def _take(self) -> bool:
        try:
            fcntl.lockf(self._office, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def end(pid: int) -> None:
    """Kill process PID, if it is one of ours, and wait until it is dead.

    Who is ours is in our process group, whose number nobody else gets as long as one of us lives.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if os.getpgid(pid) == os.getpgrp():
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(_SECONDS * 1000)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
