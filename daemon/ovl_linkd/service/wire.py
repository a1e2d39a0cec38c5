"""What goes over the control socket, and what the daemon answers it with.

These classes become the types of the Varlink interface (control.py), field by field.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol, TypedDict

from ovl_linkd.links import history
from ovl_linkd.links.flags import NOT_SET, SET
from ovl_linkd.service.clock import wall
from ovl_linkd.service.farming import Farming
from ovl_linkd.service.subscription import Followers


@dataclass(frozen=True, slots=True)
class Repair:
    """When a link was last put right, what was found, and the microseconds from event to link."""

    at: str
    found: str
    took_us: int


@dataclass(frozen=True, slots=True)
class Link:
    """A kept link as the daemon last saw it. Times are RFC 3339 in UTC.

    ``guard``: what its directory is to be, none or append-only.
    """

    name: str
    path: str
    target: str
    state: str
    actual: str | None
    target_exists: bool | None
    since: str
    reason: str | None
    remedy: str | None
    next_try: str | None
    fighting: bool
    repairs: int
    last_repair: Repair | None
    guard: str


@dataclass(frozen=True, slots=True)
class Daemon:
    """The process that keeps the links."""

    pid: int
    version: str
    since: str
    config_changed_on_disk: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in a configuration file; line 0 means the file as a whole."""

    file: str
    line: int
    column: int
    what: str
    hint: str


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Options made shorter, sizes in bytes. ``options`` is empty where they can't fit."""

    strategy: str
    options: str
    before: int
    after: int
    limit: int
    layers: int
    fits: bool
    reason: str | None
    remedy: str | None


@dataclass(frozen=True, slots=True)
class Farm:
    """The farm as the daemon last saw it, with as many ``entries`` as there are and may be at most.

    ``oldest``: when the entry was last asked for that goes next. ``guarded``: whether the directory
    is append-only, null where that can't be told. The last three are counted from the start.
    """

    path: str
    state: str
    reason: str | None
    remedy: str | None
    entries: int
    most: int
    oldest: str | None
    guard: str
    guarded: bool | None
    leases: int
    expiries: int
    repairs: int


class State(TypedDict):
    """The daemon, its links and its farm."""

    daemon: Daemon
    links: list[Link]
    farm: Farm | None


class Refused(Exception):
    """What Service.reload() raises: the problems found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems


class Service(Protocol):
    """What the interface needs of the daemon."""

    farming: Farming
    followers: Followers

    def catch_up(self) -> None: ...

    def daemon(self) -> Daemon: ...

    def statuses(self, names: Collection[str]) -> list[history.Status]: ...

    def repair(self, names: list[str], adopt: bool) -> list[history.Status]: ...

    async def reload(self) -> None: ...

    def rewrite(self, options: str, when: str) -> Rewritten: ...


def link(status: history.Status) -> Link:
    """STATUS as it goes over the wire."""
    last = status.last_repair
    return Link(
        name=status.link.name,
        path=status.link.path,
        target=status.link.target,
        state=status.state,
        actual=_utf8(status.actual),
        target_exists=status.target_exists,
        since=wall(status.since),
        reason=_utf8(status.reason),
        remedy=_utf8(status.remedy),
        next_try=None if status.next_try is None else wall(status.next_try),
        fighting=status.fighting,
        repairs=status.repairs,
        last_repair=last and Repair(wall(last.at), last.found, round(last.took * 1e6)),
        guard=status.link.guard,
    )


def farm(farming: Farming) -> Farm | None:
    """How FARMING stands, as it goes over the wire."""
    status = farming.status()
    if status is None:
        return None
    trouble, guarded = status.trouble, farming.guarded()
    reason, remedy = (trouble.reason, trouble.remedy) if trouble else (None, None)
    if status.wanted.lasting and not guarded and not trouble:
        reason, remedy = NOT_SET, SET
    return Farm(
        path=status.wanted.path,
        state=trouble.state if trouble else "ok",
        reason=_utf8(reason),
        remedy=_utf8(remedy),
        entries=status.entries,
        most=status.wanted.most,
        oldest=None if status.oldest is None else wall(status.oldest),
        guard="append-only" if status.wanted.lasting else "none",
        guarded=guarded,
        leases=status.leases,
        expiries=status.expiries,
        repairs=status.repairs,
    )


def _utf8(text: str | None) -> str | None:
    """TEXT with bytes that are not UTF-8 escaped: a symlink may say anything, JSON may not."""
    return text and text.encode("utf-8", "backslashreplace").decode()
