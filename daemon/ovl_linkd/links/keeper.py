"""Every wanted link against what is on disk: when to repair, when to wait, and what happened.

Synchronous and without a clock of its own: ``now`` comes from outside, in seconds of one steady
clock (CLOCK_BOOTTIME in the daemon), and what was done goes out as values.
"""

import os
from collections.abc import Callable, Iterable

from ovl_linkd.links.exchange import exchange, sweep
from ovl_linkd.links.flags import is_append_only
from ovl_linkd.links.history import Change, Outcome, Repair, Status
from ovl_linkd.links.link import (
    Link,
    Observation,
    cause,
    create,
    create_parent,
    in_run,
    is_right,
    observe,
    remedy_for,
)
from ovl_linkd.links.pauses import Retry, Rivalry
from ovl_linkd.links.walk import unsafe_ancestor

_ATTEMPTS = 4  # looks in a row at a path that changes while it is looked at


class _Entry:
    """What the keeper remembers of one link."""

    __slots__ = ("known", "link", "parent", "retry", "rivalry", "status")

    def __init__(self, link: Link, known: bool) -> None:
        self.link = link
        self.parent = os.path.dirname(link.path)
        self.known = known  # the link was right once: what is there instead is not a first sight
        self.status: Status | None = None
        self.retry = Retry()
        self.rivalry = Rivalry()

    def next_try(self) -> float | None:
        return self.rivalry.next_try or self.retry.at

    def deadline(self) -> float | None:
        """When the link has to be looked at even if nothing happens."""
        return min(filter(None, (self.next_try(), self.rivalry.quiet_at())), default=None)


class Keeper:
    """Keeps a set of links. ``clock`` gives the seconds in which ``now`` is counted.

    ``remembered`` maps paths to the symlink texts that an earlier run kept there, so that a link
    which only has a new target is no first sight.
    """

    def __init__(
        self, clock: Callable[[], float], remembered: dict[str, str] | None = None
    ) -> None:
        self._clock = clock
        self._remembered = remembered or {}
        self._entries: dict[str, _Entry] = {}
        self._timed: set[str] = set()  # the names that have a retry or a fight under way

    def want(self, links: Iterable[Link]) -> tuple[Link, ...]:
        """Keep LINKS from now on; return those that are kept no more. Nothing on disk changes."""
        old = self._entries
        by_path = {entry.link.path: entry for entry in old.values()}
        self._entries = {}
        for link in links:
            entry = old.get(link.name)
            if entry is None or entry.link != link:
                # Its target changed, or its name: the symlink there is still ours.
                before = by_path.get(link.path)
                entry = _Entry(link, known=before is not None and before.known)
            self._entries[link.name] = entry
        self._timed &= {name for name in self._entries if old.get(name) is self._entries[name]}
        kept = {entry.link.path for entry in self._entries.values()}
        return tuple(entry.link for path, entry in by_path.items() if path not in kept)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all links, in the order of the configuration."""
        return tuple(self._entries)

    def statuses(self) -> list[Status]:
        """What the last look at each link said."""
        return [entry.status for entry in self._entries.values() if entry.status]

    def deadline(self) -> float | None:
        """When due() will next name a link, or None."""
        times = (self._entries[name].deadline() for name in self._timed)
        return min(filter(None, times), default=None)

    def due(self, now: float) -> list[str]:
        """The links whose pause, or whose fight, is over."""
        times = ((name, self._entries[name].deadline()) for name in self._timed)
        return [name for name, time in times if time is not None and time <= now]

    def look(self, names: Iterable[str], now: float) -> list[Change]:
        """Look at the links NAMES, put right what isn't, and say what changed.

        Unknown names are passed over. Raises nothing: an error is a state.
        """
        return self.record(self.mend(names, now), now)

    def mend(self, names: Iterable[str], now: float) -> list[Outcome]:
        """Put the links NAMES right, and nothing else: what was done is for record().

        Several calls may go before one record(), so that a storm of events is mended first.
        """
        safe: dict[str, str | None] = {}
        return [
            Outcome(name, *self._mend(entry, now, safe))
            for name in names
            if (entry := self._entries.get(name))
        ]

    def record(self, outcomes: Iterable[Outcome], now: float) -> list[Change]:
        """Remember what mend() did and found; say what a person would want to know."""
        changes = []
        unremarkable: dict[str, None] = {}
        for name, seen, repair in outcomes:
            if name not in self._entries:
                continue  # since it was mended, it is kept no more
            if seen is None and repair is None:
                unremarkable[name] = None
                continue
            unremarkable.pop(name, None)
            changes.append(self._record(self._entries[name], now, seen, repair))
        changes += [self._record(self._entries[name], now, None, None) for name in unremarkable]
        return [change for change in changes if change]

    def insist(self, names: Iterable[str], now: float, adopt: bool = False) -> list[Change]:
        """Like look(), but don't wait for the end of a pause.

        ``adopt`` takes a foreign symlink for ours that was found at first sight outside /run.
        """
        wanted = list(names)
        for entry in (self._entries[name] for name in wanted if name in self._entries):
            entry.known |= adopt
            entry.retry.settle()
            entry.rivalry.insist(now)
        return self.look(wanted, now)

    def _mend(
        self, entry: _Entry, now: float, safe: dict[str, str | None]
    ) -> tuple[Observation | None, Repair | None]:
        """Put one link right if it isn't; the fields of an Outcome."""
        try:
            if reason := _unsafe(entry, safe):
                return _untouched(entry.link, reason), None
            for _ in range(_ATTEMPTS):
                if done := self._attempt(entry, now):
                    return done
        except OSError as error:
            return _failing(entry.link, error), None
        return None, None

    def _attempt(
        self, entry: _Entry, now: float
    ) -> tuple[Observation | None, Repair | None] | None:
        """Put one link right by what is there now; None if that changed meanwhile."""
        link = entry.link
        try:
            create(link)
            return None, Repair(now, "missing", self._clock() - now)
        except FileExistsError:
            if is_right(link):
                return None, None
        except (FileNotFoundError, NotADirectoryError):
            reason = create_parent(link)
            return (_waiting(link, reason), None) if reason else None
        seen = observe(link)
        if seen.state != "wrong":
            return None if seen.state == "missing" else (seen, None)
        if held := self._hold_back(entry, now, seen):
            return held, None
        try:
            old = exchange(link)
        except (FileExistsError, FileNotFoundError):
            return None
        except OSError:
            entry.rivalry.unanswered()
            raise
        return None, Repair(now, "wrong", self._clock() - now, old)

    def _hold_back(self, entry: _Entry, now: float, seen: Observation) -> Observation | None:
        """What to say if the foreign symlink SEEN can't be replaced now; None if it may be."""
        link = entry.link
        if is_append_only(parent := entry.parent):
            # rename(2) would fail, and leave a temporary name that can't be removed any more.
            reason = f"{seen.reason}, and can't be replaced: {parent} is append-only"
            return seen._replace(state="failing", reason=reason, remedy=_unguard(link, parent))
        ours = entry.known or self._remembered.get(link.path) == seen.actual
        if not ours and not in_run(link):
            reason = f"{seen.reason}, and was there before the daemon"
            remedy = f"ovl-linkd repair {link.name} --adopt"
            return seen._replace(state="blocked", reason=reason, remedy=remedy)
        if entry.rivalry.may_answer(now):
            return None
        remedy = f"find out what replaces {link.path}; the link is put right after a pause"
        reason = f"somebody keeps replacing the link; {seen.reason}"
        return seen._replace(reason=reason, remedy=remedy)

    def _record(
        self, entry: _Entry, now: float, seen: Observation | None, repair: Repair | None
    ) -> Change | None:
        """Remember what was seen, or look now; the Change, if anything is new."""
        seen = seen or observe(entry.link)
        before = entry.status
        if seen.state in ("ok", "dangling"):
            entry.known = True
        entry.rivalry.settle(now, replaced=seen.state == "wrong")
        self._plan_retry(entry, now, seen.state)
        after = Status(
            link=entry.link,
            state=seen.state,
            actual=seen.actual,
            target_exists=seen.target_exists,
            reason=seen.reason,
            remedy=seen.remedy,
            since=before.since if before and before.state == seen.state else now,
            repairs=(before.repairs if before else 0) + (repair is not None),
            last_repair=repair or (before.last_repair if before else None),
            next_try=entry.next_try(),
            fighting=entry.rivalry.fighting,
        )
        entry.status = after
        if before and not repair and after.news == before.news:
            return None
        return Change(before, after, repair)

    def _plan_retry(self, entry: _Entry, now: float, state: str) -> None:
        """Set when a failed repair is tried again, and whether the link has a time to wait for."""
        if state in ("failing", "missing") or (state == "wrong" and not entry.rivalry.fighting):
            entry.retry.failed(now)
        else:
            entry.retry.settle()
        if entry.deadline() is None:
            self._timed.discard(entry.link.name)
        else:
            self._timed.add(entry.link.name)

    def sweep(self) -> list[tuple[Link, OSError]]:
        """Clear away what a killed run left half done; the links where that failed."""
        failed = []
        for entry in self._entries.values():
            try:
                if entry.link.allow_unsafe_parent or not unsafe_ancestor(entry.link.path):
                    sweep(entry.link)
            except OSError as error:
                failed.append((entry.link, error))
        return failed


def _unsafe(entry: _Entry, safe: dict[str, str | None]) -> str | None:
    """Why a link may not be touched where it lies. SAFE: what was found out in this round."""
    if entry.link.allow_unsafe_parent:
        return None
    if entry.parent not in safe:
        safe[entry.parent] = unsafe_ancestor(entry.link.path)
    return safe[entry.parent]


def _untouched(link: Link, reason: str) -> Observation:
    """LINK as it is, where an unsafe directory keeps us from touching it."""
    seen = observe(link)
    if seen.state in ("ok", "dangling"):
        return seen
    remedy = "give the directory to root, mode 0755, or set allow-unsafe-parent: true"
    return seen._replace(state="blocked", reason=reason, remedy=remedy)


def _waiting(link: Link, reason: str) -> Observation:
    seen = observe(link)
    if seen.state != "waiting":
        return seen
    return seen._replace(reason=f"{seen.reason}, and it is not made: {reason}")


def _unguard(link: Link, parent: str) -> str:
    """What lets LINK be replaced, whose directory PARENT is append-only."""
    return "systemctl reload ovl-linkd-guard" if link.guard != "none" else f"chattr -a {parent}"


def _failing(link: Link, error: OSError) -> Observation:
    seen = observe(link)
    return seen._replace(state="failing", reason=cause(error, link), remedy=remedy_for(error, link))
