"""What is known of a kept link, and what happened to it: plain values.

Times are in seconds of the keeper's clock.
"""

from typing import NamedTuple

from ovl_linkd.links.link import Link, Observation


class Repair(NamedTuple):
    """A link that was put right: when, what was found instead, and the seconds it took."""

    at: float
    found: str  # "missing", or "wrong"
    took: float
    old: str | None = None  # what the wrong symlink said


class Status(NamedTuple):
    """All that is known of one link."""

    link: Link
    state: str
    actual: str | None
    target_exists: bool | None
    reason: str | None
    remedy: str | None
    since: float
    repairs: int
    last_repair: Repair | None
    next_try: float | None
    fighting: bool

    @property
    def news(self) -> tuple[object, ...]:
        """What a person wants to hear of when it changes."""
        return self.state, self.actual, self.target_exists, self.reason, self.fighting


class Change(NamedTuple):
    """What one look did to a link, or found. ``before`` is None at the first look."""

    before: Status | None
    after: Status
    repair: Repair | None = None


class Outcome(NamedTuple):
    """What mend() met at one link: what was ``seen``, if more than a look can tell later."""

    name: str
    seen: Observation | None
    repair: Repair | None
