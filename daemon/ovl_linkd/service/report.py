"""What the keeper did, as log lines; and a storm of it as a handful of them."""

import logging
from collections.abc import Iterable

from ovl_linkd.links.keeper import Change, Status

MOST_LINES = 10  # about links, within
WINDOW = 10.0  # seconds

#: state -> log level of entering it
_LEVELS = {
    "ok": logging.INFO,
    "dangling": logging.WARNING,
    "wrong": logging.WARNING,
    "missing": logging.WARNING,
    "blocked": logging.ERROR,
    "waiting": logging.WARNING,
    "failing": logging.ERROR,
}


class Report:
    """Logs changes. After MOST_LINES in a WINDOW the rest is counted and told in one line."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._window = float("-inf")  # when the present window began
        self._lines = 0
        self._unsaid = 0
        self._slowest = 0.0

    def tell(self, changes: Iterable[Change], now: float) -> None:
        """Log CHANGES, which happened at NOW."""
        for change in changes:
            began, ended = _fight(change)
            if began or ended:
                level = logging.WARNING if began else logging.INFO
                self._logger.log(level, fight_line(change))
                continue
            if now - self._window > WINDOW:
                self.flush()
                self._window, self._lines = now, 0
            if self._lines < MOST_LINES:
                self._lines += 1
                self._logger.log(*line(change))
            else:
                self._unsaid += 1
                self._slowest = max(self._slowest, change.repair.took if change.repair else 0.0)

    def unsaid(self) -> bool:
        """Whether flush() has something to tell."""
        return self._unsaid > 0

    def flush(self) -> None:
        """Tell of what was only counted."""
        if self._unsaid:
            self._logger.warning(
                "%d more changes of links in %g s, slowest repair %.1f ms; ovl-linkd status shows "
                "how each is now",
                self._unsaid,
                WINDOW,
                self._slowest * 1000,
            )
        self._unsaid, self._slowest = 0, 0.0


def _fight(change: Change) -> tuple[bool, bool]:
    """Whether CHANGE is the beginning, or the end, of a fight."""
    before = change.before.fighting if change.before else False
    return change.after.fighting and not before, before and not change.after.fighting


def fight_line(change: Change) -> str:
    """What is said once when somebody begins, or stops, to replace a link again and again."""
    status = change.after
    if status.fighting:
        return (
            f"{status.link.path} is being replaced again and again (now by {status.actual}); "
            f"it is put right after growing pauses. Find out what does it"
        )
    return f"{status.link.path} is no longer being replaced"


def line(change: Change) -> tuple[int, str]:
    """The level and the text that tell of CHANGE."""
    status, repair = change.after, change.repair
    if repair:
        if change.before is None and repair.found == "missing":
            text = f"made {status.link.path} -> {status.link.target}"
            level = logging.INFO
        else:
            what = f"found {repair.found}" + (f": {repair.old}" if repair.old else "")
            text = (
                f"restored {status.link.path} -> {status.link.target} "
                f"({what}; {repair.took * 1e6:.0f} µs)"
            )
            level = logging.WARNING
        return (level, text) if status.state == "ok" else (level, f"{text}; {_state(status)}")
    return _LEVELS[status.state], f"{status.link.path}: {_state(status)}"


def _state(status: Status) -> str:
    text = status.state + (f": {status.reason}" if status.reason else "")
    return text + (f" (to do: {status.remedy})" if status.remedy else "")


def summary(statuses: Iterable[Status]) -> str:
    """One honest line about all links, "2 links ok, 1 blocked", for STATUS= (sd_notify(3))."""
    counts: dict[str, int] = {}
    for status in statuses:
        counts[status.state] = counts.get(status.state, 0) + 1
    ok = counts.pop("ok", 0)
    parts = [f"{ok} {'link' if ok == 1 else 'links'} ok"]
    return ", ".join(parts + [f"{count} {state}" for state, count in sorted(counts.items())])
