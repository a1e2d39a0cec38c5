"""The worker: receives a call of mount(2), and lets it through, mends its options or refuses it.

It may die at any moment. How far it has come stands in its slot, and whoever takes the slot over
finishes what is there first. Doing so twice does no harm: the same text is written, and a caller
gets one answer, the first.
"""

import ctypes
import errno
import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ovl_linkd.intercept import memory, proc, seccomp
from ovl_linkd.intercept.decide import Decision, Names, decide
from ovl_linkd.intercept.saying import Voice
from ovl_linkd.intercept.slots import BUSY, RECEIVED, TOO_LONG, WAITING, Slot, Slots
from ovl_linkd.intercept.view import View
from ovl_linkd.overlay.limits import Limits
from ovl_linkd.overlay.options import MAX_TEXT

_TYPE = b"overlay\0"
_TARGET, _FILE_SYSTEM, _OPTIONS = 1, 2, 4  # arguments of mount(2)
_LONGEST_PATH = 4096
_MOMENT = 1.0  # seconds: by then a link that a cleaner took is back, also on a busy machine


class Surroundings(NamedTuple):
    """What a worker works with: ``names``, the short ones as they are now; ``poke`` wakes the
    guard."""

    listener: int
    slots: Slots
    limits: Limits
    names: Callable[[], Names]
    poke: Callable[[], None]
    voice: Voice


class Worker:
    """Serves in slot NUMBER."""

    def __init__(self, number: int, around: Surroundings) -> None:
        self._number = number
        self._around = around
        self._slot = around.slots[number]
        self._blind = False
        self._caller = ""

    def serve(self) -> None:
        """Receive and answer, for good. Raises OSError where nobody is under the filter."""
        slots, slot, listener = self._around.slots, self._slot, self._around.listener
        address = ctypes.addressof(slot)
        while True:
            if not slot.holds_call:
                slots.set_state(self._number, WAITING)
                if not seccomp.receive(listener, address):
                    continue
                slot.since = time.monotonic()
                slot.seen += 1
            slots.set_state(self._number, BUSY)
            # With nobody left to receive the next call it is for the guard to see to that.
            if not slots.watched or not slots.anybody(WAITING):
                self._around.poke()
            try:
                self._answer()
            except Exception as error:  # the caller must get an answer whatever is wrong with us
                self._around.voice.trouble(f"{self._who()}: {type(error).__name__}: {error}")
                give_up(self._around, slot, slot.notification.id)
            slot.clear()

    def _answer(self) -> None:
        # Once it is answered the caller may be gone.
        self._caller = self._who() if self._around.voice.verbose else ""
        if self._slot.stage == RECEIVED:
            if reason := self._harmless():
                seccomp.let_through(self._around.listener, self._slot.notification.id)
                self._tell(f"let through: {reason}")
                return
            self._slot.stage = TOO_LONG
        if self._slot.stage == TOO_LONG:
            self._mend()
        else:
            self._write(*self._around.slots.kept(self._number))

    def _harmless(self) -> str:
        """Why the call may go on as it stands; empty for an overlay with too many options.

        What the kernel can't read it answers with EFAULT, or does without, as it would without us.
        """
        call = self._slot.notification
        page = self._around.limits.mount + 1
        try:
            if call.pid == 0:
                raise OSError(errno.ESRCH, "it lives in a PID namespace that is not below this one")
            kind = memory.read(call.pid, call.args[_FILE_SYSTEM], len(_TYPE))
            if kind != _TYPE:
                return "it is no overlay"
            options = memory.read_text(call.pid, call.args[_OPTIONS], page)
        except OSError as error:
            if not self._blind:
                self._blind = True
                self._around.voice.trouble(f"{self._who()} can't be looked at: {error.strerror}")
            return "it can't be looked at"
        if options.ended or len(options.text) < page:
            return f"{len(options.text):,} bytes of overlay options fit"
        return ""

    def _mend(self) -> None:
        call, around = self._slot.notification, self._around
        options = memory.read_text(call.pid, call.args[_OPTIONS], MAX_TEXT + 1)
        if not options.ended:
            what = "the options have no end, or one that can't be read"
            return self._refuse(Decision(b"", "", what, "a NUL byte ends them"))
        try:
            with View(call.pid) as view:
                if not seccomp.is_valid(around.listener, call.id):
                    return None
                decision = self._decide(options.text, view)
        except OSError as error:
            what = f"the caller's directories can't be looked at: {error.strerror}"
            return self._refuse(Decision(b"", "", what))
        if not decision.options:
            return self._refuse(decision)
        around.slots.keep(self._number, decision.options + b"\0", options.text)
        if self._write(*around.slots.kept(self._number)):
            before, after = len(options.text), len(decision.options)
            self._tell(f"{before:,} bytes of overlay options became {after:,} by {decision.how}")
        return None

    def _decide(self, text: bytes, view: View) -> Decision:
        """Decide, and again as long as a link that is of no use is about to be put right."""
        around = self._around
        deadline = time.monotonic() + _MOMENT
        while True:
            names = around.names()
            decision = decide(text, view, names, around.limits)
            if not decision.elsewhere or time.monotonic() > deadline:
                return decision
            # It may be back by now: then this look was one too early.
            if not away(names, decision.elsewhere):
                return decide(text, view, names, around.limits)
            time.sleep(0.005)

    def _write(self, text: bytes, original: bytes) -> bool:
        """Write TEXT over ORIGINAL, which was there, and let the call go on; whether that is so."""
        call, listener = self._slot.notification, self._around.listener
        written = False
        try:
            place = memory.open_to_write(call.pid)
        except OSError as error:
            why = error.strerror
        else:
            try:
                # From here on the descriptor is known to be of who waits for the answer.
                if not seccomp.is_valid(listener, call.id):
                    return False
                why = "shared memory that is read-only"
                written = memory.write(place, call.args[_OPTIONS], text)
                if not written:
                    memory.write(place, call.args[_OPTIONS], original)
            finally:
                os.close(place)
        if written:
            went_on = seccomp.let_through(listener, call.id)
            self._slot.rewritten += went_on
            return went_on
        what = f"the shorter options can't be written where the caller's lie: {why}"
        self._refuse(Decision(b"", "", what))
        return False

    def _refuse(self, decision: Decision) -> None:
        caller = self._who()
        if not seccomp.refuse(self._around.listener, self._slot.notification.id, errno.EINVAL):
            return  # it is gone
        self._slot.refused += 1
        hint = f" (what would help: {decision.remedy})" if decision.remedy else ""
        self._around.voice.refused(f"{caller}: refused: {decision.reason}{hint}")

    def _tell(self, what: str) -> None:
        self._around.voice.tell(f"{self._caller}: {what}")

    def _who(self) -> str:
        """Who calls, and what it mounts on, for a person."""
        call = self._slot.notification
        try:
            name = os.fsdecode(proc.read_of(call.pid, "comm").rstrip(b"\n"))
            target = memory.read_text(call.pid, call.args[_TARGET], _LONGEST_PATH).text
            return f"mount(2) by {name} ({call.pid}) on {os.fsdecode(target)}"
        except OSError:
            return f"mount(2) by {call.pid}"


def away(names: Names, of_no_use: Sequence[str]) -> bool:
    """Whether one of the links OF_NO_USE to a caller is not there for anybody."""
    for link in names.links:
        if link.name in of_no_use:
            try:
                if os.readlink(link.short) == link.target:
                    continue
            except OSError:
                pass
            return True
    return False


def give_up(around: Surroundings, slot: Slot, call: int) -> bool:
    """Answer CALL, the notification's id, without another look; False if nobody waits for that.

    SLOT tells how far its worker has come. What is not known to be an overlay with too many options
    goes on: with it the kernel does what it would do without us. The rest is refused.
    """
    if slot.stage == RECEIVED:
        return seccomp.let_through(around.listener, call)
    refused = seccomp.refuse(around.listener, call, errno.EINVAL)
    slot.refused += refused
    return refused
