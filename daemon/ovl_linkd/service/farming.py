"""The farm in the event loop: its timers, its turns, and what is said of it."""

import asyncio
import os
from collections.abc import Callable, Collection, Sequence

from ovl_linkd import config
from ovl_linkd.links.boot import boot_id
from ovl_linkd.links.farm import Farm
from ovl_linkd.links.flags import is_append_only
from ovl_linkd.links.terms import Status, Wanted
from ovl_linkd.overlay.prefixes import Prefix
from ovl_linkd.service.clock import clock
from ovl_linkd.service.report import WINDOW, Report

TAG = ".farm"  # the watch's tag for the farm; TAG/ID for an entry. No link has such a name
_ENTRY = f"{TAG}/"


class Farming:
    """The daemon's farm, or that it has none; ``changed`` is called after each change, and told
    whether it is one of the farm's state."""

    def __init__(self, report: Report, changed: Callable[[bool], None], before: str | None) -> None:
        """BEFORE: the directory that an earlier run of this boot had."""
        self._before = before
        self._report = report
        self._changed = changed
        self._farm: Farm | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._going_on = False
        self._state = "ok"  # that was told last
        self._repairs = 0  # that were told
        self._saying: asyncio.TimerHandle | None = None  # a pause before more is told of repairs

    def want(self, farm: config.Farm | None) -> None:
        """Have FARM, or none, from now on; look() at it when it is watched."""
        before = self._farm
        wanted = farm and Wanted(farm.path, farm.keep, farm.max_entries, farm.guard != "none")
        if before and wanted and before.wanted.path == wanted.path:
            before.want(wanted)
            return
        if before:
            self._report.gone(f"the farm {before.wanted.path}")
        self._farm = None
        if wanted:
            self._farm = Farm(wanted, boot_id, wanted.path == self._before)
        self._state, self._repairs = "ok", 0

    @property
    def path(self) -> str | None:
        """The directory; None without a farm."""
        return self._farm.wanted.path if self._farm else None

    def own_files(self) -> list[str]:
        """What lies beside the farm and must not go: tend() puts it back."""
        return [self._farm.ledger_path] if self._farm else []

    def directories(self) -> list[tuple[str, str]]:
        """The directory in which every name is to be watched, and its tag."""
        return [(self._farm.wanted.path, TAG)] if self._farm else []

    def mend(self, tags: Collection[str], now: float) -> None:
        """Look again at what TAGS name of the farm."""
        if self._farm is None:
            return
        if TAG in tags:
            self._farm.look(now)
        names = [tag[len(_ENTRY) :] for tag in tags if tag.startswith(_ENTRY)]
        if names:
            self._farm.mend(names, now)
        if names or TAG in tags:
            # What is to be said waits until nothing is left to be put right.
            asyncio.get_running_loop().call_soon(self._after)

    def lease(self, paths: Sequence[str]) -> list[str] | None:
        """A short path for each of PATHS; None without a farm. Raises as Farm.lease()."""
        if self._farm is None:
            return None
        try:
            return self._farm.lease(paths, clock())
        finally:
            self._changed(False)
            self._after()

    def known(self, paths: Sequence[bytes]) -> list[Prefix]:
        """Those of the directories PATHS that have a short path which will stay a while."""
        if self._farm is None:
            return []
        found = self._farm.known(map(os.fsdecode, paths), clock())
        return [
            Prefix(short, os.fsencode(path), os.fsencode(short)) for path, short in found.items()
        ]

    def status(self) -> Status | None:
        """How it stands, as last seen; None without a farm."""
        return self._farm.status() if self._farm else None

    def guarded(self) -> bool | None:
        """Whether the directory is append-only; None where that can't be told."""
        return is_append_only(self.path) if self.path else None

    def state(self) -> str | None:
        """`ok`, or the state of what is in the way; None without a farm."""
        status = self.status()
        if status is None:
            return None
        return status.trouble.state if status.trouble else "ok"

    def tend(self) -> None:
        """Put back what is the farm's own and was removed."""
        if self._farm:
            self._farm.tend(clock())
            self._after()

    def _go_on(self) -> None:
        self._going_on = False
        if self._farm:
            self._farm.go_on(clock())
            self._after()

    def _on_timer(self) -> None:
        self._timer = None
        if self._farm:
            self._farm.due(clock())
            self._changed(False)
            self._after()

    def _after(self) -> None:
        """Everything that comes after a look at the farm."""
        if self._farm is None:
            return
        loop = asyncio.get_running_loop()
        if self._farm.looking and not self._going_on:
            self._going_on = True
            loop.call_soon(self._go_on)
        self._plan_timer(self._farm)
        self._tell(self._farm)

    def _plan_timer(self, farm: Farm) -> None:
        deadline = farm.deadline()
        loop = asyncio.get_running_loop()
        wanted = None if deadline is None else loop.time() + max(0.0, deadline - clock())
        if self._timer:
            # A lease moves the end of one entry only: a timer that comes too early does no harm.
            if wanted is not None and self._timer.when() <= wanted:
                return
            self._timer.cancel()
            self._timer = None
        if wanted is not None:
            self._timer = loop.call_at(wanted, self._on_timer)

    def _tell(self, farm: Farm) -> None:
        for note in farm.notes:
            self._report.note(note)
        farm.notes.clear()
        status = farm.status()
        # Of how many entries something is wrong with is for `status` to say, not for the log.
        state = status.trouble.state if status.trouble else "ok"
        if state != self._state:
            self._state = state
            self._report.farm(status.wanted.path, status.trouble, clock())
            self._changed(True)
        if status.repairs > self._repairs and self._saying is None:
            self._tell_repairs(farm)

    def _tell_repairs(self, farm: Farm) -> None:
        """Say how many entries were put right; a storm of them in one line a while."""
        self._saying = None
        repairs = farm.status().repairs - self._repairs
        if farm is not self._farm or not repairs:
            return
        self._repairs += repairs
        self._report.farm_restored(farm.wanted.path, repairs)
        self._changed(False)
        loop = asyncio.get_running_loop()
        self._saying = loop.call_later(WINDOW, self._tell_repairs, farm)
