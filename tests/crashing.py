"""A process that is killed, played inside the test: between any two changes it makes on disk."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

#: what changes something on disk; open(2) may make a file
CALLS = (
    *("fchmod", "fsync", "ftruncate", "link", "mkdir", "open", "rename", "symlink"),
    *("unlink", "write"),
)


class Crash(BaseException):
    """The process was killed. No `except Exception` of the code under test sees it."""


@contextmanager
def crashing(at: int) -> Iterator[None]:
    """Raise Crash instead of the call number AT of CALLS, and of every one after it.

    So nothing that the code under test does on its way out reaches the disk either.
    """
    count = 0

    def killed_in(call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **keys: Any) -> Any:
            nonlocal count
            count += 1
            if count >= at:
                raise Crash
            return call(*arguments, **keys)

        return instead

    patches = {name: killed_in(getattr(os, name)) for name in CALLS}
    with mock.patch.dict(vars(os), patches):
        yield
