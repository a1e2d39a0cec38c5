"""What goes wrong and nobody foresaw: said, looked after, and not for ever."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping

from ovl_linkd.errors import UserError
from ovl_linkd.service.report import event

PAUSE = 1.0  # seconds after trouble until it is tried again, or looked at everything
MOST = 20  # troubles within
WINDOW = 10.0  # seconds that a daemon may have and go on


class Paced:
    """Does ACT when called, but not before PAUSE seconds after the last time.

    What we do may make the event that has us do it again: where it is never well done, that would
    be without end.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> None:
        """Act now, or when the pause is over."""
        if self._timer:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._not_before:
            self._now()
        else:
            self._timer = loop.call_at(self._not_before, self._now)

    def _now(self) -> None:
        self._timer = None
        try:
            self._act()
        finally:
            self._not_before = asyncio.get_running_loop().time() + PAUSE


class Troubles:
    """The event loop's exception handler. What is ``not_ours`` is passed over.

    ``again`` is called a while after trouble, since a hint may be lost; ``give_up`` when there is
    so much of it that a process which begins anew is better off: the links stay meanwhile.
    """

    def __init__(
        self,
        log: logging.Logger,
        not_ours: Callable[[Mapping[str, object]], bool],
        again: Callable[[], None],
        give_up: Callable[[UserError], None],
    ) -> None:
        self._log = log
        self._not_ours = not_ours
        self._again = again
        self._give_up = give_up
        self._times: deque[float] = deque(maxlen=MOST)

    def __call__(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
        """As asyncio calls it."""
        error = context.get("exception")
        # Cancelled is a client that was served when the daemon stopped.
        if isinstance(error, asyncio.CancelledError) or self._not_ours(context):
            return
        now = loop.time()
        if len(self._times) == MOST and now - self._times[0] < WINDOW:
            what = f"more than {MOST} unexpected errors in {WINDOW:g} s, the last one: {error!r}"
            self._give_up(UserError(what, "the links stay; please report what the log says"))
            return
        self._times.append(now)
        self._log.error(
            "%s, ignoring",
            context.get("message"),
            exc_info=error if isinstance(error, BaseException) else None,
            extra=event("bug"),
        )
        loop.call_later(PAUSE, self._again)
