"""A directory of short links for single layers, each there for a while after it was asked for.

Not one wanted link each with the keeper: an entry has no state of its own that anybody asks for,
so that it costs a fifth of what a kept link does, and the directory is checked once for them all.
Synchronous and without a clock: ``now`` is in seconds of CLOCK_BOOTTIME.
"""

import errno
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice, takewhile

from ovl_linkd.links import ledger
from ovl_linkd.links.leases import Leases
from ovl_linkd.links.ledger import Lease, Taken
from ovl_linkd.links.pauses import Retry
from ovl_linkd.links.plot import Plot, Trouble
from ovl_linkd.links.terms import Full, Status, Unusable, Wanted, layer

TURN = 1_000  # entries that are looked at, or let go, before others get a turn
_EXPIRE_AGAIN = 60.0  # seconds after entries could not be removed


class Farm:
    """The farm WANTED. ``boot`` tells one boot from another (random(4), boot_id); raises OSError.

    What an earlier run left is taken up by the first call that comes to it; ``before``: in this
    boot there was one, whatever is left of it. ``notes``: what a person should hear of, for the
    caller to take.
    """

    def __init__(self, wanted: Wanted, boot: Callable[[], str], before: bool = False) -> None:
        self.wanted = wanted
        self.notes: list[str] = []
        self._boot = boot
        self._before = before
        self._plot = Plot(wanted.path)
        self._leases = Leases(ledger.path_of(wanted.path))
        self._obstacle: Trouble | None = None
        self._failure: Trouble | None = None  # of the last attempt to make or write something
        self._stuck: Trouble | None = None  # of the last attempt to let entries go
        self._lost: Trouble | None = None  # to another daemon
        self._retry = Retry()
        self._expire_at = 0.0  # not before
        self._unguarded = False  # a moment ago, or in a moment
        self._to_see: list[str] = []  # ids that a full look has still to come to
        self._clean = True  # it has met no failure
        self._given = self._expired = self._repaired = 0

    @property
    def ledger_path(self) -> str:
        """The file beside the directory."""
        return self._leases.path

    @property
    def looking(self) -> bool:
        """Whether go_on() has something to do."""
        return bool(self._to_see)

    def want(self, wanted: Wanted) -> None:
        """Other numbers for the farm, at the same path; it is taken back from another daemon."""
        assert wanted.path == self.wanted.path
        self._unguarded = self.wanted.lasting and not wanted.lasting
        self.wanted = wanted
        self._expire_at = 0.0
        if self._lost:
            self._lost, self._plot = None, Plot(wanted.path)
            self._leases = Leases(self._leases.path)

    def status(self) -> Status:
        """How it stands, as last seen."""
        trouble = self._lost or self._obstacle or self._failure or self._stuck
        if self._plot.amiss and not trouble:
            trouble, *more = self._plot.amiss.values()
            if more:
                trouble = trouble._replace(reason=f"{trouble.reason}, and {len(more)} more")
        oldest = next(iter(self._leases), None)
        return Status(
            self.wanted, trouble, len(self._leases), oldest and oldest.asked,
            self._given, self._expired, self._repaired,
        )  # fmt: skip

    # -- leasing ------------------------------------------------------------------------------

    def lease(self, paths: Sequence[str], now: float) -> list[str]:
        """A short path for each of PATHS, absolute paths of directories; the same for the same.

        They are all given, or none. Raises NotALayer, Full, Unusable.
        """
        targets = [layer(path, self.wanted.path) for path in paths]
        if not self._ready(now):
            raise Unusable(self.status().trouble or Trouble("failing", "", ""))
        try:
            leases = self._give(dict.fromkeys(targets), now)
        except OSError as error:
            raise Unusable(self._failed(error, now)) from None
        self._given += len(paths)
        return [f"{self.wanted.path}/{leases[target].id}" for target in targets]

    def known(self, paths: Iterable[str], now: float) -> dict[str, str]:
        """The short paths that those of PATHS have which are leased, and are sure to stay a while.

        Nobody's entry lives longer for it. One that has less than half of its time left is passed
        over: it could be gone before it is used. It could never lead elsewhere.
        """
        found: dict[str, str] = {}
        if not self._ready(now):
            return found
        for path in paths:
            lease = self._leases.to(path)
            if lease is None or not self._plot.holds(lease):
                continue
            if self.wanted.lasting or now - lease.asked <= self.wanted.keep / 2:
                found[path] = self._plot.link(lease).path
        return found

    def _give(self, targets: Collection[str], now: float) -> dict[str, Lease]:
        """An entry for each of TARGETS, by target. Raises Full, OSError."""
        unknown = sum(self._leases.to(target) is None for target in targets)
        if unknown and len(self._leases) + unknown > self.wanted.most:
            self._expire(now)
        asked, fresh, gone = {}, [], []
        for target in targets:
            lease = self._leases.to(target)
            if lease and self._right(lease, now):
                asked[target] = lease
                continue
            fresh.append(target)
            if lease:
                gone.append(lease)  # something that is not ours is in its place, and stays
        more = len(fresh) - len(gone)
        if more and len(self._leases) + more > self.wanted.most:
            raise Full(len(self._leases), self.wanted.most)
        names = self._leases.fresh_names(len(fresh), self._plot.taken)
        given = [Lease(name, target, now) for name, target in zip(names, fresh, strict=True)]
        self._leases.change(now, given, asked.values(), gone)
        for lease in gone:
            self._plot.forsake(lease)
        for lease in given:
            self._plot.begin(lease, now)
            if lease.id in self._plot.amiss:  # put there since we looked
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), lease.id)
        return asked | {lease.target: lease for lease in given}

    def _right(self, lease: Lease, now: float) -> bool:
        """Whether LEASE's entry is right, or could be put right. Raises OSError, Unusable."""
        if self._plot.mend(lease, now, insist=True):
            self._repaired += 1
        if trouble := self._unreadable(lease):
            raise Unusable(trouble)  # it may well be ours: it is no reason to give another id
        return lease.id not in self._plot.amiss

    def _unreadable(self, lease: Lease) -> Trouble | None:
        """Why it could not be seen what is in the place of LEASE's entry."""
        trouble = self._plot.amiss.get(lease.id)
        return trouble if trouble and trouble.state == "failing" else None

    # -- keeping ------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Begin to look at all entries: go_on() does it, so that others get their turn."""
        self._plot.forget(now)
        self._clean = self._ready(now)
        self._to_see = self._leases.names()
        self._end_look()

    def go_on(self, now: float) -> int:
        """Look at the next entries; how many were put right."""
        names = self._to_see[-TURN:]
        del self._to_see[-TURN:]
        mended = self.mend(names, now)
        self._end_look()
        return mended

    def mend(self, names: Iterable[str], now: float) -> int:
        """Put the entries NAMES right, those that are ours; how many weren't."""
        if not self._ready(now):
            return 0
        mended = 0
        try:
            for lease in filter(None, map(self._leases.named, names)):
                if self._plot.mend(lease, now):
                    mended += 1
                elif self._unreadable(lease):
                    self._try_again(now)
        except OSError as error:
            self._failed(error, now)
        self._repaired += mended
        return mended

    def due(self, now: float) -> int:
        """Do what has waited for its time: repairs after a pause, expiry; how many were mended."""
        if self._retry.at is not None and self._retry.at <= now:
            self._retry.at = None  # the next pause is longer, if one is needed
            self.look(now)
        mended = self.mend(self._plot.due(now), now)
        self._expire(now)
        return mended

    def deadline(self) -> float | None:
        """When due() has something to do, or None."""
        times = [self._retry.at, self._plot.deadline()]
        oldest = next(iter(self._leases), None)
        if oldest and not (self.wanted.lasting or self._obstacle or self._lost):
            # A little late, and more of them at once: an idle machine is not woken for each.
            slack = min(60.0, self.wanted.keep / 16)
            times.append(max(oldest.asked + self.wanted.keep + slack, self._expire_at))
        return min((time for time in times if time is not None), default=None)

    def _expire(self, now: float) -> None:
        """Let go of the first entries that nobody has asked for in ``keep`` seconds."""
        if self.wanted.lasting or now < self._expire_at or not self._ready(now):
            return
        if self._unguarded:  # who takes the flag off is told of it only after us
            self._unguarded, self._expire_at = False, now + _EXPIRE_AGAIN
            return
        first = islice(self._leases, TURN)
        over = list(takewhile(lambda lease: lease.asked + self.wanted.keep <= now, first))
        gone = []
        try:
            try:
                # The other way round, a kill would leave entries that nobody takes away.
                for lease in over:
                    self._plot.remove(lease)
                    gone.append(lease)
            finally:
                self._leases.change(now, (), (), gone)
                self._expired += len(gone)
            self._stuck = None
        except OSError as error:
            self._expire_at = now + _EXPIRE_AGAIN
            self._stuck = self._trouble(error)

    def tend(self, now: float) -> None:
        """Write the ledger anew if something removed it, where nobody else may write."""
        if self._lost:
            return  # its ledger is the other daemon's to write: we don't know what was given since
        try:
            if self._plot.obstacle() is None:
                self._leases.tend()
        except OSError as error:
            self._failed(error, now)

    # -- what can be in the way ---------------------------------------------------------------

    def _ready(self, now: float) -> bool:
        """Whether the farm may be used; what is missing of it is taken up, or made."""
        if self._lost:
            return False
        if self._leases.known and self._plot.plainly_usable():
            self._obstacle = None
            return True
        try:
            self._obstacle = self._plot.obstacle()
            if not self._obstacle and not self._leases.known:
                # Before the directory is made: one without a ledger is one that lost it.
                self._take_up(now)
            if not self._obstacle:
                self._obstacle = self._plot.make()
        except OSError as error:
            self._failed(error, now)
            return False
        return self._obstacle is None

    def _take_up(self, now: float) -> None:
        over, loss = self._leases.take_up(self._boot(), now, self._highest)
        if loss:
            self.notes.append(loss)
        try:
            for lease in over:
                self._plot.remove(lease)
            self._plot.sweep(self._leases.named)
        except OSError as error:
            self.notes.append(self._trouble(error).reason)
        self._to_see = self._leases.names()

    def _highest(self, most: int) -> int | None:
        """The highest number up to MOST that may have been given; None if there was no farm."""
        found = self._plot.highest(most)
        return 0 if found is None and self._before else found

    def _failed(self, error: OSError, now: float) -> Trouble:
        """Remember ERROR, and when to try again; what it means to a person."""
        trouble = self._trouble(error)
        if isinstance(error, Taken):
            remedy = "stop the other daemon, or give one of them another path; ovl-linkd reload"
            self._lost = trouble = trouble._replace(state="blocked", remedy=remedy)
            self._retry.settle()
        else:
            self._failure = trouble
            self._try_again(now)
        return trouble

    def _try_again(self, now: float) -> None:
        """Look at everything after a pause: nothing tells when what failed would work."""
        self._clean = False
        self._retry.failed(now)

    def _trouble(self, error: OSError) -> Trouble:
        return self._plot.failing(error)

    def _end_look(self) -> None:
        """Only a look at everything that met no failure tells that there is none any more."""
        if self._clean and not self._to_see:
            self._failure = None
            self._retry.settle()
