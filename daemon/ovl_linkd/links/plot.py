"""A farm's directory on disk: whether it may be used, and its entries one by one.

Which entries there are to be is farm.py's.
"""

import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from ovl_linkd.links import ids
from ovl_linkd.links.exchange import exchange, sweep
from ovl_linkd.links.flags import is_append_only
from ovl_linkd.links.ledger import Lease
from ovl_linkd.links.link import (
    Link,
    Observation,
    cause,
    create,
    create_parent,
    is_ours,
    is_right,
    observe,
    remedy_for,
)
from ovl_linkd.links.pauses import Rivalry
from ovl_linkd.links.walk import plainly_safe, unsafe_ancestor

_ATTEMPTS = 4  # looks in a row at an entry that changes while it is looked at
_ANY = "*"  # stands for the name of any entry


class Trouble(NamedTuple):
    """Why the directory, or something in it, can't be used; ``state`` as a link's, ovl-linkd(8)."""

    state: str
    reason: str
    remedy: str


class Plot:
    """The directory at ``path``, and what in it is not as it should be.

    ``amiss``: what is wrong with which entry, by id.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.amiss: dict[str, Trouble] = {}
        self._rivals: dict[str, Rivalry] = {}  # of the entries that were replaced lately
        self._fights: set[str] = set()  # those that are replaced again and again

    def link(self, lease: Lease) -> Link:
        """LEASE as a link that is to be kept."""
        return Link(lease.id, f"{self.path}/{lease.id}", lease.target)

    def there(self) -> bool:
        """Whether anything at all is at the path."""
        return os.path.lexists(self.path)

    def plainly_usable(self) -> bool:
        """Whether it is seen at first sight that there is no obstacle() and nothing to make()."""
        try:
            return plainly_safe(f"{self.path}/{_ANY}")
        except OSError:
            return False

    def obstacle(self) -> Trouble | None:
        """Why nothing may be made in the directory; None also where it is to be made.

        Only a directory itself will do, root's or this process' own, in which nobody else may
        write, and with all above it like that: whoever else could put a symlink here would have
        the daemon write elsewhere. Raises OSError where that can't be looked at.
        """
        try:
            mode = os.lstat(self.path).st_mode
        except OSError:
            mode = stat.S_IFDIR
        if not stat.S_ISDIR(mode):
            remedy = f"move {self.path} away; the directory is made as soon as the path is free"
            what = "a symlink" if stat.S_ISLNK(mode) else "no directory"
            return Trouble("blocked", f"{what} is at {self.path}", remedy)
        if reason := unsafe_ancestor(f"{self.path}/{_ANY}"):
            return Trouble("blocked", reason, "give that directory to root, mode 0755")
        parent = os.path.dirname(self.path)
        return None if os.path.isdir(parent) else self._waiting(f"no directory {parent}")

    def make(self) -> Trouble | None:
        """Make the directory if it is missing; why that has to wait. Raises OSError."""
        reason = None if self.there() else create_parent(Link(_ANY, f"{self.path}/{_ANY}", "/"))
        return self._waiting(reason) if reason else None

    def _waiting(self, reason: str) -> Trouble:
        remedy = f"make the directory {os.path.dirname(self.path)}"
        return Trouble("waiting", f"{self.path} is not made: {reason}", remedy)

    def taken(self, name: str) -> bool:
        """Whether anything has NAME in the directory."""
        return os.path.lexists(f"{self.path}/{name}")

    def holds(self, lease: Lease) -> bool:
        """Whether the entry is there and leads where it should."""
        return is_right(self.link(lease))

    def begin(self, lease: Lease, now: float) -> None:
        """Make an entry where nothing was a moment ago; what came there since is left to mend()."""
        try:
            create(self.link(lease))
        except FileExistsError:
            self.mend(lease, now)

    def mend(self, lease: Lease, now: float, insist: bool = False) -> str | None:
        """Put one entry right; what was found, ``missing`` or ``wrong``.

        None if it was right, or could not be put right: `amiss` says so then. One that somebody
        replaces again and again is put right after pauses, unless INSIST. Raises OSError.
        """
        link = self.link(lease)
        for _ in range(_ATTEMPTS):
            if is_right(link):
                self._settle(lease.id, now)
                return None
            try:
                create(link)
                found = "missing"
            except FileExistsError:
                seen = observe(link)
                if seen.state not in ("wrong", "blocked", "failing"):
                    continue  # it has changed since
                if trouble := self._in_the_way(link, seen, now, insist):
                    self.amiss[lease.id] = trouble
                    return None
                try:
                    exchange(link)
                except (FileExistsError, FileNotFoundError):
                    continue
                except OSError:
                    self._rivals[lease.id].unanswered()
                    raise
                found = "wrong"
            self._settle(lease.id, now)
            return found
        return None

    def _in_the_way(
        self, link: Link, seen: Observation, now: float, insist: bool
    ) -> Trouble | None:
        """Why what was SEEN at LINK's path must stay for now; None if it may be exchanged."""
        if seen.state != "wrong":
            return Trouble(seen.state, seen.reason or "", seen.remedy or "")
        trouble = self._hold_back(link, now, insist)
        return trouble and trouble._replace(reason=f"{trouble.reason}; {seen.reason}")

    def _hold_back(self, link: Link, now: float, insist: bool) -> Trouble | None:
        """What to say if the entry LINK, which somebody replaced, can't be put right now."""
        if is_append_only(self.path):
            # rename(2) would fail, and leave a temporary name that can't be removed any more.
            reason = f"{link.path} was replaced before {self.path} became append-only"
            unguard, guard = (f"systemctl {verb} ovl-linkd-guard" for verb in ("stop", "start"))
            return Trouble("wrong", reason, f"{unguard}; ovl-linkd repair; {guard}")
        if self._may_answer(link.name, now, insist):
            return None
        remedy = f"find out what replaces {link.path}; it is put right after a pause"
        return Trouble("wrong", f"somebody keeps replacing {link.path}", remedy)

    def _may_answer(self, name: str, now: float, insist: bool) -> bool:
        """Whether a fight over the entry NAME lets it be put right now."""
        rivalry = self._rivals.setdefault(name, Rivalry())
        if insist:
            rivalry.insist(now)
        may = rivalry.may_answer(now)
        if rivalry.fighting:
            self._fights.add(name)
        return may

    def remove(self, lease: Lease) -> None:
        """Take the entry away if it is the symlink that we made. Raises OSError."""
        link = self.link(lease)
        if is_ours(link):
            os.unlink(link.path)
        self.forsake(lease)

    def forsake(self, lease: Lease) -> None:
        """The entry is none of ours any more."""
        self.amiss.pop(lease.id, None)
        self._rivals.pop(lease.id, None)
        self._fights.discard(lease.id)

    def due(self, now: float) -> list[str]:
        """The entries, by id, whose pause or whose fight is over."""
        return [name for name in self._fights if (self._time(name) or now) <= now]

    def deadline(self) -> float | None:
        """When due() will next name an entry, or None."""
        return min(filter(None, map(self._time, self._fights)), default=None)

    def forget(self, now: float) -> None:
        """Forget what was replaced so long ago that it is no part of a fight any more."""
        self._rivals = {name: one for name, one in self._rivals.items() if not one.over(now)}

    def _time(self, name: str) -> float | None:
        rivalry = self._rivals[name]
        return rivalry.next_try or rivalry.quiet_at()

    def highest(self, most: int) -> int | None:
        """The highest number up to MOST that is the id of a symlink in the directory, or 0.

        None where there is no directory. Raises OSError.
        """
        try:
            with os.scandir(self.path) as entries:
                return ids.highest((each.name for each in entries if each.is_symlink()), most)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def sweep(self, known: Callable[[str], Lease | None]) -> None:
        """Clear away what a killed run left half done, also of entries that are not KNOWN.

        Raises OSError.
        """
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return
        for name in names:
            entry = name.removeprefix(".").removesuffix(".ovl-linkd")
            if name == f".{entry}.ovl-linkd" and ids.number(entry):
                sweep(self.link(known(entry) or Lease(entry, "/", 0.0)))

    def failing(self, error: OSError) -> Trouble:
        """What ERROR, met in the directory, means to a person."""
        link = Link(_ANY, f"{self.path}/{_ANY}", "/")
        return Trouble("failing", cause(error, link), remedy_for(error, link))

    def _settle(self, name: str, now: float) -> None:
        """The entry NAME is right now."""
        self.amiss.pop(name, None)
        if rivalry := self._rivals.get(name):
            rivalry.settle(now, replaced=False)
            if not rivalry.fighting:
                self._fights.discard(name)
