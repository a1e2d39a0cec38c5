"""What can go wrong inside a supervisor, each as a function that sees to it that it does."""

import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from ovl_linkd.intercept import decide, guard, memory, seccomp, view, worker

_shared = mmap.mmap(-1, 8)


def _times(most: int) -> bool:
    """True MOST times, counted over all processes: the workers are forked from one.

    A byte each goes into the file $FAULTS, for who waits for it to happen.
    """
    _shared[0] = min(255, _shared[0] + 1)
    if _shared[0] > most:
        return False
    with open(os.environ["FAULTS"], "ab", buffering=0) as file:
        file.write(b".")
    return True


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before(module: object, name: str, what: Callable[[], None], most: int = 1) -> None:
    """Have WHAT happen before the function NAME does what it should, MOST times."""
    right = getattr(module, name)

    def wrong(*arguments: Any, **more: Any) -> Any:
        if _times(most):
            what()
        return right(*arguments, **more)

    setattr(module, name, wrong)


def _after(module: object, name: str, what: Callable[[], None]) -> None:
    """Have WHAT happen once after the function NAME has done what it should."""
    right = getattr(module, name)

    def wrong(*arguments: Any, **more: Any) -> Any:
        result = right(*arguments, **more)
        if result and _times(1):
            what()
        return result

    setattr(module, name, wrong)


def die_after_receiving() -> None:
    _after(seccomp, "receive", _die)


def die_before_reading() -> None:
    _before(memory, "read_text", _die)


def die_before_looking() -> None:
    _before(view.View, "same", _die)


def die_before_writing() -> None:
    _before(memory, "write", _die)


def die_in_the_middle_of_writing() -> None:
    """The first page of the text, or a part of it, is there, the rest is the old one."""
    right = memory.write

    def wrong(place: int, address: int, text: bytes) -> bool:
        if _times(1):
            right(place, address, text[: len(text) // 2])
            _die()
        return right(place, address, text)

    memory.write = wrong  # type: ignore[assignment]


def die_after_writing() -> None:
    _after(memory, "write", _die)


def die_after_answering() -> None:
    _after(seccomp, "let_through", _die)


def die_of_every_call() -> None:
    _before(memory, "read_text", _die, most=200)


def raise_an_error() -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    _before(decide, "plan", fail)


def break_the_guard() -> None:
    """Once, when it has begun."""
    right = guard.Guard._settle

    def wrong(self: guard.Guard) -> None:
        if _times(1):
            raise RuntimeError("a bug")
        right(self)

    guard.Guard._settle = wrong  # type: ignore[method-assign]


def die_before_the_command_begins() -> None:
    """The guard, when it has its workers."""
    right = guard.Guard.start

    def wrong(self: guard.Guard) -> None:
        right(self)
        if _times(1):
            _die()

    guard.Guard.start = wrong  # type: ignore[method-assign]


# Seconds for a call, where one is to take longer; the others need less on a busy machine, too.
_IMPATIENT = 2.0


def dawdle() -> None:
    """Every call takes longer than anybody would wait."""
    guard._PATIENCE = _IMPATIENT
    _before(view.View, "same", lambda: time.sleep(1000), most=200)


def dawdle_once() -> None:
    """The first call never ends, unless its worker does."""
    _before(view.View, "same", lambda: time.sleep(1000))


def dawdle_three_times() -> None:
    """As many as there are workers, and one more."""
    _before(view.View, "same", lambda: time.sleep(1000), most=3)


def be_held_up_after_receiving() -> None:
    """A worker doesn't come to note when its call came, but the guard looks after it."""
    guard._PATIENCE = _IMPATIENT
    _after(seccomp, "receive", lambda: time.sleep(_IMPATIENT + 0.5))
    right = guard.Guard.start

    def wrong(self: guard.Guard) -> None:
        right(self)
        self._slots.watched = True

    guard.Guard.start = wrong  # type: ignore[method-assign]
    guard.Guard._settle = lambda _self: None  # type: ignore[assignment, method-assign]


def finish_while_being_given_up() -> None:
    """A worker that was too slow has the next call before the guard comes to kill it."""
    guard.LEAST, guard._PATIENCE = 1, _IMPATIENT
    answered, taken_up = 1, 2  # places in the shared memory
    right = worker.give_up

    def wrong(*arguments: Any) -> bool:
        result = right(*arguments)
        _shared[answered] = 1
        _wait_for(taken_up)
        return result

    def look() -> None:
        if not _shared[answered]:
            _wait_for(answered)
        else:
            _shared[taken_up] = 1
            time.sleep(1000)

    guard.give_up = wrong  # type: ignore[assignment, attr-defined]
    _before(view.View, "same", look, most=2)


def _wait_for(place: int) -> None:
    while not _shared[place]:
        time.sleep(0.01)


def be_patient() -> None:
    """A link that is away may be put right much later, as it would be by a machine that is busy."""
    worker._MOMENT = 60.0


def older_kernel() -> None:
    """A flag that it doesn't know, as those before 5.19 don't know one that is used."""
    seccomp._FLAGS_WANTED |= 1 << 30


def tell_of_imports() -> None:
    """Whatever is imported once calls are answered: an upgrade may have taken it away by then."""
    right = guard.Guard.start

    def wrong(self: guard.Guard) -> None:
        sys.addaudithook(_tell_of_import)
        right(self)

    guard.Guard.start = wrong  # type: ignore[method-assign]


def _tell_of_import(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "import":
        with open(os.environ["FAULTS"], "a") as file:
            file.write(f"{arguments[0]}\n")
