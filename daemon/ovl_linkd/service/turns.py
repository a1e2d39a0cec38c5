"""Whose request is answered when: no repair is to wait for what strangers ask."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

from ovl_linkd.service.peer import Peer

REST = 199  # times as long as a stranger's request took, until the next one has its turn

Answer = Callable[[], "asyncio.Future[None] | None"]
"""Answers a request; gives a future if that isn't the end of it."""


class _Waiting(NamedTuple):
    answer: Answer
    done: "asyncio.Future[None]"


class Turns:
    """Gives each request its turn; what CATCH_UP does is done when it comes, and before its turn.

    Trusted ones have theirs at once. Those of strangers get a two-hundredth of the time, all
    together and however many there are, so that 99 of 100 repairs meet none; and those of one user
    no more than those of another.
    """

    def __init__(self, catch_up: Callable[[], None]) -> None:
        self.catch_up = catch_up
        # By user, the one first whose turn is next; one without a request has no queue.
        self._waiting: OrderedDict[int, deque[_Waiting]] = OrderedDict()
        self._rested = 0.0  # when, by the loop's clock, the next stranger may have a turn

    def take(self, answer: Answer, peer: Peer) -> "asyncio.Future[None] | None":
        """Call ANSWER to PEER now or when it has its turn; what it gives, or a future for that."""
        self.catch_up()
        if peer.trusted:
            return answer()
        loop = asyncio.get_running_loop()
        if not self._waiting and loop.time() >= self._rested:
            return self._turn(answer)
        if not self._waiting:
            loop.call_at(self._rested, self._next)
        waiting = _Waiting(answer, loop.create_future())
        self._waiting.setdefault(peer.uid, deque()).append(waiting)
        return waiting.done

    def _turn(self, answer: Answer) -> "asyncio.Future[None] | None":
        began = time.thread_time()  # and not what other processes took meanwhile
        try:
            return answer()
        finally:
            took = time.thread_time() - began
            self._rested = asyncio.get_running_loop().time() + REST * took

    def _next(self) -> None:
        uid, queue = self._waiting.popitem(last=False)
        answer, done = queue.popleft()
        if queue:
            self._waiting[uid] = queue
        try:
            self.catch_up()
            going_on = self._turn(answer)
        finally:
            if self._waiting:
                asyncio.get_running_loop().call_at(self._rested, self._next)
        if going_on is None:
            done.set_result(None)
        else:
            going_on.add_done_callback(lambda _: done.set_result(None))
