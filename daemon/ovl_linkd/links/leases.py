"""Which entries a farm has, and which ids it has ever given: in memory, and in its ledger first.

An option string may be kept by whoever once got it, and mounted long after its entries are gone. So
it must never come to name another layer: an id is given once in a boot. What says which were given
is the ledger beside the directory, and not the directory, where an entry that is over leaves no
trace. Each step is written down before it is taken, so that a run that is killed anywhere leaves an
id that nobody got, but never one that could be given again.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator

from ovl_linkd.links import ids, ledger
from ovl_linkd.links.ledger import Damaged, Lease, Ledger, Memory

BLOCK = 128  # ids that are reserved at a time, durably and before one of them is given
LAG = 60.0  # seconds after which it is written down again that an entry was asked for
_HISTORY = 10_000  # lines of the ledger beyond those that count, before it is written anew
_MICROSECONDS = 1_000_000


class Leases:
    """The entries of a farm, that of them first which has not been asked for longest."""

    def __init__(self, path: str) -> None:
        """PATH: the ledger's."""
        self._ledger = Ledger(path)
        self._boot = ""
        self._by_target: OrderedDict[str, Lease] = OrderedDict()
        self._by_id: dict[str, Lease] = {}
        self._noted: dict[str, float] = {}  # id -> when it was last written down as asked for
        self._bearable = 0  # lines of history that could not be got rid of when that was tried
        self._mark = self._last = -1  # numbers up to _mark are reserved, up to _last are given

    @property
    def path(self) -> str:
        """The ledger."""
        return self._ledger.path

    @property
    def known(self) -> bool:
        """Whether the ledger has been taken up."""
        return self._mark >= 0

    def __len__(self) -> int:
        return len(self._by_target)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._by_target.values())

    def to(self, target: str) -> Lease | None:
        """The entry that leads to TARGET."""
        return self._by_target.get(target)

    def named(self, name: str) -> Lease | None:
        """The entry whose id is NAME."""
        return self._by_id.get(name)

    def names(self) -> list[str]:
        """All ids."""
        return list(self._by_id)

    def take_up(
        self, boot: str, now: float, highest: Callable[[int], int | None]
    ) -> tuple[list[Lease], str | None]:
        """Read the ledger, and make it this run's. Raises OSError, and nothing is taken up.

        ``highest`` tells the highest number up to another one among the names in the farm's
        directory, None if there was no farm in this boot. Returns the entries of another boot,
        which are over, and a sentence for a person if the ledger could not be believed.

        What then? Who got which ids can't be told any more: entries that were given and are over
        left no trace, so "above all that lie there" would be a guess. But each id was a symlink(2)
        by one process, which takes more than a microsecond, and what a restart leaves unused of a
        block is made up for by the time it takes. So there are fewer ids than this boot has had
        microseconds, and from that number on none was ever given (a name that stands for more is
        none of ours). It is long: five to eight digits, and fewer layers fit. Safe is better than
        short; the next boot begins anew.
        The entries that lie there stay, unkept: nobody knows when they were last asked for.
        """
        with self._ledger.locked():
            loss, most = None, int(now * _MICROSECONDS)
            seen = highest(most)
            try:
                memory = self._ledger.read()
            except Damaged as error:
                memory, loss = None, f"is not to be believed: {error}"
            loss = loss or _lost(memory, boot, seen)
            mark = memory.mark if memory else 0
            if memory and memory.boot != boot:
                mark = min(mark, most)  # or ids of this boot could be above its microseconds
            if loss:
                mark = max(mark, most)
                loss = f"{self.path} {loss}: ids go on above every one that may have been given"
            leases = memory.leases if memory else []
            over = leases if memory and memory.boot != boot else []
            # It may have been asked for since that was last written down.
            lasting = [each._replace(asked=min(now, each.asked + LAG)) for each in leases]
            lasting = [] if over else sorted(lasting, key=lambda lease: lease.asked)
            self._ledger.rewrite(Memory(boot, mark, lasting))
        self._boot, self._mark, self._last = boot, mark, mark
        self._by_target = OrderedDict((lease.target, lease) for lease in lasting)
        self._by_id = {lease.id: lease for lease in lasting}
        self._noted = {lease.id: lease.asked for lease in lasting}
        return over, loss

    def fresh_names(self, count: int, taken: Callable[[str], bool]) -> list[str]:
        """COUNT ids that nobody ever got, but for those that are TAKEN by something else.

        Raises OSError.
        """
        names: list[str] = []
        number = self._last
        while len(names) < count:
            number += 1
            if not taken(name := ids.name(number)):
                names.append(name)
        if number > self._mark:
            mark = number + BLOCK
            self._append([ledger.reserved(mark)], certain=True)
            self._mark = mark
        self._last = number
        return names

    def change(
        self,
        now: float,
        given: Collection[Lease],
        asked: Collection[Lease],
        gone: Collection[Lease],
    ) -> None:
        """GIVEN are new, GONE are over, ASKED have been asked for. Raises OSError: nothing is."""
        late = [each for each in asked if now - self._noted[each.id] > LAG]
        lines = [ledger.gone(lease) for lease in gone]
        lines += [ledger.asked(lease._replace(asked=now)) for lease in late]
        lines += [ledger.given(lease) for lease in given]
        if lines:
            self._append(lines)
        for lease in gone:
            del self._by_target[lease.target], self._by_id[lease.id], self._noted[lease.id]
        for lease in (*asked, *given):
            lease = lease._replace(asked=now)
            self._by_id[lease.id] = self._by_target[lease.target] = lease
            self._by_target.move_to_end(lease.target)
        self._noted.update((lease.id, now) for lease in (*late, *given))
        self._tidy()

    def tend(self) -> None:
        """Write the ledger anew if something, a cleaner perhaps, removed it. Raises OSError."""
        if self.known and not os.path.lexists(self.path):
            self._renew()

    def _tidy(self) -> None:
        """Write the ledger anew when most of it is history; where that fails, it can wait."""
        history = self._ledger.lines - 2 * len(self)
        if history <= self._bearable + _HISTORY:
            return
        try:
            self._renew()
            self._bearable = 0
        except OSError:
            self._bearable = history

    def _append(self, lines: list[str], certain: bool = False) -> None:
        try:
            self._ledger.append(lines, certain)
        except FileNotFoundError:
            self._renew()
            self._ledger.append(lines, certain)

    def _renew(self) -> None:
        self._ledger.renew(Memory(self._boot, self._mark, list(self)))


def _lost(memory: Memory | None, boot: str, seen: int | None) -> str | None:
    """Why MEMORY, a ledger's, can't tell all ids that were given in BOOT; None if it can.

    ``seen``: the highest in the farm's directory, None if there was no farm.
    """
    if memory is None:
        return None if seen is None else "is gone"
    if memory.boot == boot and seen and seen > memory.mark:
        return "is older than what lies in the farm"
    return None
