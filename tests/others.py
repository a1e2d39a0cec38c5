"""Other users, and other processes that do something or hold something while a test goes on."""

import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

NOBODY = 65534


def as_user(uid: int, function: Callable[[], T]) -> T:
    """What FUNCTION returns in a child process of the user UID. Its exceptions are raised here.

    Forked, not started anew: that user may well not be allowed to read the code under test.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            answer = pickle.dumps((True, function()))
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)
            answer = pickle.dumps((False, error))
        with open(writing, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    good, value = pickle.loads(answer)  # noqa: S301 - written by our own child, above
    if not good:
        raise value
    result: T = value
    return result


@contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """A child process does ACT meanwhile, which has no end. AssertionError if it had one."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            traceback.print_exc()  # pytest shows it
        finally:
            os._exit(1)
    try:
        yield
        assert os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, "it ended"
    finally:
        _end(child)


@contextmanager
def held_by_a_stranger(take: Callable[[], object]) -> Iterator[None]:
    """A child process of NOBODY's has what TAKE returned, and nothing else to do, meanwhile.

    AssertionError if it raised something.
    """
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(NOBODY, NOBODY, NOBODY)
            kept = take()
            os.kill(os.getpid(), signal.SIGSTOP)  # says so
            del kept
        except BaseException:
            traceback.print_exc()  # pytest shows it
        finally:
            os._exit(1)
    try:
        seen = os.waitid(os.P_PID, child, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert seen
        assert seen.si_code == os.CLD_STOPPED, "the stranger could not take it"
        yield
    finally:
        _end(child)


def _end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
