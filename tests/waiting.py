"""Waiting for what nothing in the system tells of: it is asked again and again."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Seconds; a busy machine must not fail a test that is right, nor an emulated one (tests/kernels).
PATIENCE = float(os.environ.get("OVL_LINKD_PATIENCE", "30"))
OF_A_PROGRAM = 6 * PATIENCE  # until it is taken for one that has no end: apt-get, a boot


def wait_until(
    condition: Callable[[], T | None], what: str = "it comes true", seconds: float = PATIENCE
) -> T:
    """What CONDITION gives once that is true; AssertionError, with WHAT, if it never is."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)
    return value
