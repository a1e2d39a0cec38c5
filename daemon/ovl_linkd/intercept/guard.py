"""The guard: keeps workers at the listener until nobody is under the filter any more.

It looks into no caller's memory and at no caller's files, where anything may keep it waiting; it
only looks after those who do. What becomes of a call that kills each of its workers, or keeps one
for too long, it decides without looking. A deputy of it does nothing but wait for its death.
"""

import os
import select
import signal
import time
from collections.abc import Callable
from typing import Protocol

from ovl_linkd.intercept.slots import BUSY, MOST, NONE, WAITING, Counts, Slot
from ovl_linkd.intercept.succession import end, outlive
from ovl_linkd.intercept.worker import Surroundings, Worker, give_up

#: workers that wait at any time, so that a call finds one while another is being answered
LEAST = 2
_TRIES = 3  # workers that one call may kill
_PATIENCE = 30.0  # seconds for a call: its directories may be a server's that doesn't answer
_IMPATIENCE = 2.0  # the same when there can be no more workers
_FAREWELL = 1.0
_TICK = 0.1
_IDLE = 10.0  # seconds after which a worker more than LEAST goes


class State(Protocol):
    """What tells others of the supervisor that this process is the guard of."""

    def publish(self, counts: Counts) -> bool:
        """Tell COUNTS; False if that was done a moment ago, and has to be done later."""

    def remove(self) -> None:
        """Tell nothing any more."""


class Guard:
    """Keeps watch at ``around.listener``; WOKEN is the eventfd that ``around.poke`` writes to.

    COMMAND: a pidfd of the process that was started, if standard error is told of its calls.
    """

    def __init__(self, around: Surroundings, woken: int, state: State, command: int | None) -> None:
        self._around = around
        self._slots = around.slots
        self._woken = woken
        self._command = command
        self._state = state
        self._deputy: tuple[int, int] | None = None  # process, its pidfd
        self._counts: Counts | None = None
        self._workers: dict[int, tuple[int, int]] = {}  # slot -> process, its pidfd
        self._doomed: dict[int, int] = {}  # slot -> the call answered over its worker's head
        self._trouble: int | None = None
        self._pending = False  # a call that nobody receives
        self._poll = select.poll()
        self._poll.register(woken, select.POLLIN)
        self._poll.register(around.listener, 0)  # POLLHUP comes unasked
        if command is not None:
            self._poll.register(command, select.POLLIN)

    def start(self) -> None:
        """Have the first workers, and a deputy."""
        self._keep_enough()
        self._keep_deputy()

    def run(self) -> None:
        """Return when the last process under the filter is gone, and end the workers then.

        What it raises is for the deputy to live with, who takes over when this process ends.
        """
        try:
            while not self._wait():
                self._bury()
                self._be_patient()
                self._keep_enough()
                self._keep_deputy()
                self._settle()
        except Exception as error:
            self._around.voice.trouble(f"the guard ends: {type(error).__name__}: {error}")
            raise
        self._end()

    def take_over(self) -> None:
        """Be the guard in the place of one that was killed, and finish what its workers had."""
        for number in range(MOST):
            if (pid := self._slots[number].pid) not in (0, os.getpid()):
                end(pid)
            self._slots[number].pid = 0
            self._slots.set_state(number, NONE)
        self._slots.watched = True
        time.sleep(_TICK)  # whatever ended it might end this one, too, and so on
        self._around.voice.trouble("the guard was killed; its deputy has taken its place")
        self.start()
        self.run()

    def _let_speak(self) -> None:
        """Let the workers say what they have to say of calls that were answered."""
        deadline = time.monotonic() + _FAREWELL
        while self._slots.anybody(BUSY) and time.monotonic() < deadline:
            time.sleep(0.002)
            self._bury()

    def _end(self) -> None:
        self._let_speak()
        for child, _ in self._children():
            os.kill(child, signal.SIGKILL)
        self._state.remove()

    def _wait(self) -> bool:
        """Wait until there may be something to do; whether everybody is gone."""
        crowded = not self._slots.anybody(WAITING) and len(self._workers) < MOST
        self._poll.modify(self._around.listener, select.POLLIN if crowded else 0)
        events = dict(self._poll.poll(_TICK * 1000 if self._slots.watched else None))
        if self._woken in events:
            os.eventfd_read(self._woken)
            self._slots.watched = True
        if self._command in events:
            self._fall_silent(self._command)
        self._pending = bool(events.get(self._around.listener, 0) & select.POLLIN)
        return bool(events.get(self._around.listener, 0) & select.POLLHUP)

    def _fall_silent(self, command: int) -> None:
        """Let go of standard error, which was COMMAND's: somebody may read it to its end.

        Before he waits for the command, even; and before Linux 6.11 that is under the filter until
        then (kernel/exit.c: seccomp_filter_release), so that each would wait for the other.
        """
        self._poll.unregister(command)
        self._command = None
        self._let_speak()
        self._around.voice.fall_silent()
        for child, _ in self._children():  # who comes after them has no standard error; calls are
            os.kill(child, signal.SIGKILL)  # done again
        self._slots.watched = True

    def _settle(self) -> None:
        """Let nothing but a call wake us any more, if nothing is left to look after."""
        counts = self._slots.counts()
        if counts != self._counts and self._state.publish(counts):
            self._counts = counts
        if counts == self._counts and len(self._workers) == LEAST and self._deputy:
            self._slots.watched = False
        if self._slots.anybody(BUSY):  # one that saw us awake just before
            self._slots.watched = True

    # --- workers -----------------------------------------------------------------------------

    def _children(self) -> list[tuple[int, int]]:
        return [*filter(None, [self._deputy]), *self._workers.values()]

    def _fork(self, become: Callable[[int], None]) -> tuple[int, int] | None:
        """Have a child BECOME something, told who the guard is; its process and pidfd.

        None if that can't be now.
        """
        guard = os.getpid()
        try:
            child = os.fork()
        except OSError as error:
            if self._trouble != error.errno:
                self._trouble = error.errno
                what = f"no process can be started, trying again: {error.strerror}"
                self._around.voice.trouble(what)
            return None
        if child == 0:
            try:
                for _, sibling in self._children():  # else every heir would have more of them
                    os.close(sibling)
                become(guard)
            finally:
                os._exit(1)
        self._trouble = None
        pidfd = os.pidfd_open(child)
        self._poll.register(pidfd, select.POLLIN)
        return child, pidfd

    def _spawn(self, number: int) -> bool:
        """Start a worker in slot NUMBER; False if that can't be now."""
        self._slots.set_state(number, BUSY)  # until it says that it waits
        self._slots[number].since = time.monotonic()
        worker = self._fork(lambda guard: self._be_worker(number, guard))
        if worker is None:
            self._slots.set_state(number, NONE)
            return False
        self._workers[number] = worker
        return True

    def _be_worker(self, number: int, guard: int) -> None:
        self._slots[number].pid = os.getpid()
        # A deputy that takes over before it can know of this one gives its slot to another.
        if os.getppid() == guard:
            Worker(number, self._around).serve()

    def _keep_deputy(self) -> None:
        if self._deputy is None:
            self._deputy = self._fork(self._be_deputy)

    def _be_deputy(self, guard: int) -> None:
        outlive(guard)
        Guard(self._around, self._woken, self._state, self._command).take_over()

    def _is_dead(self, child: int, pidfd: int) -> bool:
        if not os.waitpid(child, os.WNOHANG)[0]:
            return False
        self._poll.unregister(pidfd)
        os.close(pidfd)
        self._slots.watched = True
        return True

    def _bury(self) -> None:
        """Take note of who died, and see to the calls that they leave behind."""
        if self._deputy and self._is_dead(*self._deputy):
            self._deputy = None
        for number, worker in list(self._workers.items()):
            if not self._is_dead(*worker):
                continue
            del self._workers[number]
            self._slots.set_state(number, NONE)
            slot = self._slots[number]
            slot.tries += slot.holds_call
            call = slot.notification.id
            if self._doomed.pop(number, None) == call:
                slot.clear()
            elif slot.tries >= _TRIES:
                if give_up(self._around, slot, call):
                    self._blindly(slot, "as it kills who looks at it")
                slot.clear()

    def _be_patient(self) -> None:
        """Answer calls that have been looked at for too long, and end who still does.

        Until its worker is BUSY with it nobody has noted when a call came. And however quickly that
        one is done with it, and has another, what is answered here is the call that took so long.
        """
        patience = _IMPATIENCE if len(self._workers) == MOST else _PATIENCE
        now = time.monotonic()
        for number, (child, _) in self._workers.items():
            slot = self._slots[number]
            call = slot.notification.id
            late = self._slots.state(number) == BUSY and now - slot.since > patience
            if late and slot.holds_call and number not in self._doomed:
                if give_up(self._around, slot, call):
                    self._blindly(slot, f"after {patience:g} s of looking at it")
                self._doomed[number] = call
                os.kill(child, signal.SIGKILL)

    def _keep_enough(self) -> None:
        """See that each call has a worker, and that somebody waits at the listener; no crowd."""
        idle = [number for number in range(MOST) if number not in self._workers]
        for number in idle:
            wanted = self._slots[number].holds_call or len(self._workers) < LEAST
            if wanted and not self._spawn(number):
                return
        if self._pending and not self._slots.anybody(WAITING):
            time.sleep(0.002)  # most calls are answered within that
            idle = [number for number in idle if number not in self._workers]
            if idle and not self._slots.anybody(WAITING):
                self._spawn(idle[0])
        elif len(self._workers) > LEAST:
            self._thin_out()

    def _thin_out(self) -> None:
        """Let one go if there was less to do for a while."""
        idle = [number for number in self._workers if self._slots.state(number) == WAITING]
        last = max(self._slots[number].since for number in self._workers)
        if idle and time.monotonic() - last > _IDLE:
            child, _ = self._workers[max(idle)]
            os.kill(child, signal.SIGKILL)  # a call that it receives just then has its slot

    def _blindly(self, slot: Slot, why: str) -> None:
        caller = slot.notification.pid
        self._around.voice.trouble(f"mount(2) by {caller}: answered blindly, {why}")
