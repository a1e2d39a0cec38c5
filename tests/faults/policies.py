"""What becomes of a program's system calls: it is killed before one, one fails, all of a name do.

Each policy is tried for one call after the other, until there is none left. `make test` takes those
that matter, `make soak` all.
"""

import errno
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import pytest

from tests.faults.forked import Forked
from tests.faults.supervised import KILL, MAY_CHANGE, Call, Policy
from tests.soak import SOAK

MOST = 5000  # calls; more is no end

ERRORS = (
    *(errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE, errno.ENOMEM, errno.EINTR),
    *(errno.EIO, errno.EBUSY, errno.EDQUOT),
)

# What the kernel never answers with an error when its arguments are right; close(2) releases the
# descriptor whatever it says. recvfrom(2) is on the pipe by which signals wake the event loop.
_NEVER = frozenset((
    "close", "close_range", "lseek", "umask", "getsockname", "getpeername", "getsockopt", "fcntl",
    "dup2", "dup3", "wait4", "epoll_wait", "epoll_pwait", "poll", "ppoll", "recvfrom", "uname",
    "pidfd_open", "kill", "shutdown", "restart_syscall", "getrandom", "set_tid_address",
    "prlimit64", "listen_fds", "prctl", "fstat",
))  # fmt: skip
_STAT = ("newfstatat", "statx")

# What is a traceback in the log, and no more: asyncio complains when the loop can't be made, and
# asyncvarlink, for the one connection, when a client can't be listened to.
_EXCUSED = ("epoll_create", "socketpair", "epoll_ctl")


@contextmanager
def told(fault: object, daemon: Forked | None = None) -> Iterator[None]:
    """Say of an assertion that fails at which FAULT it was, and the last that DAEMON said."""
    try:
        yield
    except AssertionError as error:
        said = f"\n{daemon.log()[-2000:]}" if daemon else ""
        raise AssertionError(f"{fault}: {error}{said}") from error


# --- deaths ----------------------------------------------------------------------------------


def as_sandboxed(call: Call) -> int | None:
    """The policy of a daemon that may connect to nothing, as in its unit."""
    return errno.EPERM if call.name == "connect" else None


#: What a Death, and the sandbox, have to be asked about.
DEADLY = None if SOAK else MAY_CHANGE | {"connect"}


class Death:
    """The policy that kills the program before its call number ``at``: ``call``, if it got there.

    Counted are the calls that may leave something behind; with SOAK all of them. What KERNEL fails
    is no death.
    """

    def __init__(self, at: int, kernel: Policy = as_sandboxed) -> None:
        self._left = at
        self._kernel = kernel
        self.call: Call | None = None

    def __call__(self, call: Call) -> int | None:
        if verdict := self._kernel(call):
            return verdict
        if self.call or not (SOAK or call.changes):
            return None
        if self._left == 0:
            self.call = call
            return KILL
        self._left -= 1
        return None

    def __str__(self) -> str:
        return f"after a death at {self.call}"


def deaths(least: int = 4, kernel: Policy = as_sandboxed) -> Iterator[Death]:
    """One for each call, until one is not met any more; LEAST have to be."""
    for number in range(MOST):
        death = Death(number, kernel)
        yield death
        if death.call is None:
            assert number >= least, "hardly a call was made"
            return
    pytest.fail(f"{MOST} calls were not the end")


# --- errors ----------------------------------------------------------------------------------


def can_fail(call: Call) -> bool:
    """Whether the kernel could answer CALL with an error at all."""
    if call.name in _STAT and not call.path:
        return False  # fstat(2)
    return call.name not in _NEVER


class Once:
    """The policy that answers call number ``at`` with ``number``: an error, or KILL_CALLER.

    ``call`` is that one, if it was met. Counted are the calls that can fail; of each name one, and
    of those in ``names`` if there are any, but with SOAK all. ``forked``: of the processes that the
    daemon forks, and not its own.
    """

    def __init__(
        self, at: int, number: int, forked: bool = False, names: Collection[str] = ()
    ) -> None:
        self._left = at
        self.number = number
        self._forked = forked
        self._names = names
        self._seen: set[str] = set()
        self.call: Call | None = None

    def __call__(self, call: Call) -> int | None:
        if self.call or call.forked != self._forked or not can_fail(call):
            return None
        if not SOAK and (call.name in self._seen or call.name not in (self._names or {call.name})):
            return None
        self._seen.add(call.name)
        if self._left == 0:
            self.call = call
            return self.number
        self._left -= 1
        return None

    def __str__(self) -> str:
        name = errno.errorcode.get(self.number, "a kill")
        return f"{self.call} met {name}"


def failures(
    forked: bool = False,
    numbers: tuple[int, ...] = ERRORS,
    names: Collection[str] = (),
    least: int = 3,
) -> Iterator[Once]:
    """One for each call, until one is not met any more; with each of NUMBERS, or in turn.

    LEAST have to be met.
    """
    for turn in range(len(numbers) if SOAK else 1):
        for at in range(MOST):
            failure = Once(at, numbers[(at + turn) % len(numbers)], forked, names)
            yield failure
            if failure.call is None:
                assert at >= least, "hardly a call was made"
                break
        else:
            pytest.fail(f"{MOST} calls were not the end")


def stumbled(daemon: Forked, failure: object) -> bool:
    """Whether there is a traceback in the log that FAILURE is no excuse for."""
    excused = any(excuse in str(failure) for excuse in _EXCUSED)
    return not excused and "Traceback" in daemon.log()


# --- outages ---------------------------------------------------------------------------------

WINDOW = 2.0 if SOAK else 0.4  # seconds of an outage
MOST_CALLS = 3000  # in an outage: a loop without end makes fifty thousand in a second


# Calls that newer architectures have only by the later name.
_OLDER = ("link", "mkdir", "readlink", "rename", "symlink", "unlink")


def here(name: str) -> str:
    """What this machine calls the system call NAME."""
    return f"{name}at" if name in _OLDER and os.uname().machine != "x86_64" else name


class Outage:
    """The policy under which each call of one NAME fails, and all calls are counted."""

    def __init__(self, name: str, number: int) -> None:
        self.name = here(name)
        self.number = number
        self.calls = self.failed = 0

    def __call__(self, call: Call) -> int | None:
        self.calls += 1
        if call.forked or call.name != self.name or not can_fail(call):
            return None
        self.failed += 1
        return self.number

    def __str__(self) -> str:
        return f"each {self.name} met {errno.errorcode[self.number]}"
