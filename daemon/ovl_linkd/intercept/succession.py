"""What a guard's deputy needs: to see the guard die, and to end the workers that it had."""

import os
import select
import signal

_SECONDS = 1.0


def outlive(guard: int) -> None:
    """Return when GUARD, the parent of this process, is dead."""
    try:
        pidfd = os.pidfd_open(guard)
    except ProcessLookupError:
        return
    try:
        if os.getppid() == guard:  # else it was dead before, and this is another one
            _wait(pidfd, None)
    finally:
        os.close(pidfd)


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
            _wait(pidfd, _SECONDS)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def _wait(pidfd: int, seconds: float | None) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(None if seconds is None else seconds * 1000)
