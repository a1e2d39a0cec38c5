"""Calls that fail, or are a process' last ones, played inside the test."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

#: what changes something on disk; open(2) may make a file
CALLS = (
    *("fchmod", "fsync", "ftruncate", "link", "mkdir", "open", "rename", "symlink"),
    *("unlink", "write"),
)
#: and what only looks
LOOKS = ("fstat", "listdir", "lstat", "readlink", "scandir", "stat")


class Crash(BaseException):
    """The process was killed. No `except Exception` of the code under test sees it."""


@contextmanager
def crashing(at: int) -> Iterator[None]:
    """Raise Crash instead of the call number AT of CALLS, and of every one after it.

    So nothing that the code under test does on its way out reaches the disk either.
    """

    def killed(count: int, _path: object) -> None:
        if count >= at:
            raise Crash

    with _asked(CALLS, killed):
        yield


@contextmanager
def failing(at: int, number: int) -> Iterator[list[str]]:
    """Have the call number AT of CALLS and LOOKS fail with the error NUMBER, once.

    What is yielded holds the path that it was about, if it came to that.
    """
    failed: list[str] = []

    def fails(count: int, path: object) -> None:
        if count == at:
            failed.append(str(path))
            raise OSError(number, os.strerror(number), path if isinstance(path, str) else None)

    with _asked((*CALLS, *LOOKS), fails):
        yield failed


@contextmanager
def _asked(names: Sequence[str], ask: Callable[[int, object], None]) -> Iterator[None]:
    """Call ASK with a count and the first argument before each call of the functions NAMES.

    Those that a test makes itself don't count.
    """
    count = 0

    def asking(call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **keys: Any) -> Any:
            nonlocal count
            if _of_the_product():
                count += 1
                ask(count, arguments[0])
            return call(*arguments, **keys)

        return instead

    with mock.patch.dict(vars(os), {name: asking(getattr(os, name)) for name in names}):
        yield


def _of_the_product() -> bool:
    """Whether the code under test is what calls, itself or through the standard library."""
    frame = sys._getframe(2)
    while frame.f_back and not frame.f_globals["__name__"].startswith(("ovl_linkd", "tests.")):
        frame = frame.f_back
    return bool(frame.f_globals["__name__"].startswith("ovl_linkd"))
