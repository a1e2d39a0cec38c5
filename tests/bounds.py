"""That something does not take long, without a clock: by its steps, or by its coming to an end."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import TraceFunction


def steps(work: Callable[[], object]) -> int:
    """How many lines of Python WORK goes through, each round of a loop anew: no clock, no noise.

    What a function written in C does within one call is one step, whatever it costs.
    """
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> "TraceFunction":
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail the test if what is done here would go on for ever: SECONDS are far more than it needs.

    Regular expressions end by it as well: they look for signals as they go (Modules/_sre).
    """

    def late(_number: int, _frame: object) -> None:
        raise AssertionError(f"took over {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
