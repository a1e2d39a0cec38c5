"""How long to wait before a link is put right again: after a failure, and in a fight.

Values and arithmetic only; ``now`` is in seconds of the keeper's clock.
"""

from collections import deque

FIGHT_COUNT = 10  # replacements within FIGHT_WINDOW seconds that are still no fight
FIGHT_WINDOW = 10.0
FIGHT_QUIET = 60.0  # seconds without a replacement that end a fight
FIRST_PAUSE = 0.25  # seconds; doubled each time up to
LAST_PAUSE = 30.0


class Retry:
    """Pauses that grow as long as a repair fails. ``at`` is when to try next, or None."""

    __slots__ = ("at", "pause")

    def __init__(self) -> None:
        self.settle()

    def settle(self) -> None:
        """Nothing fails any more."""
        self.at: float | None = None
        self.pause = FIRST_PAUSE

    def failed(self, now: float) -> None:
        """A repair failed; an attempt before its time doesn't lengthen the pause."""
        if self.at is None or self.at <= now:
            self.at = now + self.pause
            self.pause = min(2 * self.pause, LAST_PAUSE)


class Rivalry:
    """Whether somebody replaces a link as often as it is put right, and when to answer.

    ``fighting`` is true from the replacement after FIGHT_COUNT within FIGHT_WINDOW, until
    FIGHT_QUIET seconds have passed without one. ``next_try`` is when the present replacement is
    answered, None if none waits for an answer.
    """

    __slots__ = ("_last", "_pause", "_replaced", "fighting", "next_try")

    def __init__(self) -> None:
        self._replaced: deque[float] = deque(maxlen=FIGHT_COUNT)
        self.end()

    def end(self) -> None:
        """Forget it all."""
        self._replaced.clear()
        self._last = 0.0
        self._pause = FIRST_PAUSE
        self.fighting = False
        self.next_try: float | None = None

    def may_answer(self, now: float) -> bool:
        """Note that the link is found replaced; say whether it may be put right now."""
        if not self.fighting:
            oldest = self._replaced[0] if len(self._replaced) == FIGHT_COUNT else None
            if oldest is None or now - oldest > FIGHT_WINDOW:
                self._replaced.append(now)
                self.next_try = None
                return True
            self.fighting = True
        self._last = now
        if self.next_try is None:
            self.next_try = now + self._pause
        if now < self.next_try:
            return False
        # Longer each time that one was waited for, not each time that one began: a link that is
        # removed in between, and made at once, would bring it to the last one within a second.
        self._pause = min(2 * self._pause, LAST_PAUSE)
        self.next_try = None
        return True

    def unanswered(self) -> None:
        """The link could not be put right: at the next look the same replacement is still there."""
        if not self.fighting:
            self._replaced.pop()

    def insist(self, now: float) -> None:
        """Answer at the next look, whatever the pause, and be it that which begins a fight."""
        self.next_try = now

    def quiet_at(self) -> float | None:
        """When the fight is over if nothing more happens; None without a fight."""
        return self._last + FIGHT_QUIET if self.fighting else None

    def over(self, now: float) -> bool:
        """Whether there is nothing to remember: no fight, and no replacement that may begin one."""
        last = self._replaced[-1] if self._replaced else float("-inf")
        return not self.fighting and now - last > FIGHT_WINDOW

    def settle(self, now: float, replaced: bool) -> None:
        """Note whether the link is REPLACED at the moment; end a fight that has been quiet."""
        if not replaced:
            self.next_try = None
        if self.fighting and now - self._last >= FIGHT_QUIET:
            self.end()
