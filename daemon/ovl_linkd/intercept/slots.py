"""Memory that the guard shares with its workers: each worker's call, and how far it has come.

The kernel writes a notification straight into it (seccomp_notify_recv, kernel/seccomp.c, fills the
buffer before it looks at signals again). So there is no moment at which a worker can die with a
caller that nobody knows of: the guard starts another on the same slot, which takes the call up.
"""

import ctypes
import mmap
from typing import NamedTuple

from ovl_linkd.intercept.seccomp import ROOM, Notification

#: workers at once, hence slots
MOST = 32

# What the worker of a slot does.
NONE, WAITING, BUSY = range(3)

# How far the call in a slot has come.
RECEIVED = 0  # nothing is known of it
TOO_LONG = 1  # an overlay that may not go on as it stands
WRITING = 2  # its new text is being written, and may be there in part


class Slot(ctypes.Structure):
    """One worker's place; all of it zero at first.

    ``since``: time.monotonic() when the call was received. ``tries``: workers that died of it.
    ``pid``: the worker.
    """

    _fields_ = (
        ("notification", Notification),
        ("_room", ctypes.c_char * (ROOM - ctypes.sizeof(Notification))),
        ("since", ctypes.c_double),
        ("seen", ctypes.c_uint64),
        ("rewritten", ctypes.c_uint64),
        ("refused", ctypes.c_uint64),
        ("size", ctypes.c_uint32),
        ("pid", ctypes.c_int32),
        ("stage", ctypes.c_uint8),
        ("tries", ctypes.c_uint8),
    )
    notification: Notification
    since: float
    seen: int
    rewritten: int
    refused: int
    size: int
    pid: int
    stage: int
    tries: int

    @property
    def holds_call(self) -> bool:
        """Whether a call was received that may not have been answered."""
        return self.notification.arch != 0

    def clear(self) -> None:
        """Have it hold no call, as receive() wants it."""
        self.stage = RECEIVED
        self.tries = 0
        ctypes.memset(ctypes.addressof(self), 0, ROOM)


class Counts(NamedTuple):
    """Calls of mount(2) that were received; of these, how many were rewritten and refused."""

    seen: int
    rewritten: int
    refused: int


class Slots:
    """The memory: MOST slots, two texts of up to PAGE bytes for each, and what its worker does.

    It costs nothing before it is used.
    """

    def __init__(self, page: int) -> None:
        self._page = page
        size = -(-ctypes.sizeof(Slot) // 8) * 8 + 2 * page
        self._texts = [at * size + size - 2 * page for at in range(MOST)]
        self._states = MOST * size
        self._memory = mmap.mmap(-1, self._states + MOST + 1)
        self._slots = [Slot.from_buffer(self._memory, at * size) for at in range(MOST)]

    def __getitem__(self, number: int) -> Slot:
        return self._slots[number]

    def state(self, number: int) -> int:
        """What the worker of slot NUMBER does."""
        return self._memory[self._states + number]

    def set_state(self, number: int, state: int) -> None:
        """Note what the worker of slot NUMBER does."""
        self._memory[self._states + number] = state

    def anybody(self, state: int) -> bool:
        """Whether any worker does that."""
        return state in self._memory[self._states : self._states + MOST]

    @property
    def watched(self) -> bool:
        """Whether the guard looks here by itself every now and then, or must be woken."""
        return self._memory[self._states + MOST] != 0

    @watched.setter
    def watched(self, value: bool) -> None:
        self._memory[self._states + MOST] = value

    def keep(self, number: int, text: bytes, original: bytes) -> None:
        """Note that in slot NUMBER's call TEXT is about to be written over ORIGINAL."""
        start, size = self._texts[number], len(text)
        self._memory[start : start + size] = text
        self._memory[start + self._page : start + self._page + size] = original[:size]
        self._slots[number].size = size
        self._slots[number].stage = WRITING

    def kept(self, number: int) -> tuple[bytes, bytes]:
        """What keep() noted: the text, and the bytes in whose place it goes."""
        start, size = self._texts[number], self._slots[number].size
        original = start + self._page
        return self._memory[start : start + size], self._memory[original : original + size]

    def counts(self) -> Counts:
        """What all workers have done so far."""
        return Counts(
            sum(slot.seen for slot in self._slots),
            sum(slot.rewritten for slot in self._slots),
            sum(slot.refused for slot in self._slots),
        )
