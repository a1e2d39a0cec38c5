"""What is wanted of a farm, how it answers, and how it stands: plain values and exceptions."""

from typing import NamedTuple

from ovl_linkd.links.plot import Trouble


class NotALayer(Exception):
    """``path`` can't be leased, because of ``what``."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path
        self.what = what


class Full(Exception):
    """There are ``entries``, and ``most`` may be."""

    def __init__(self, entries: int, most: int) -> None:
        super().__init__(f"{entries} entries, {most} may be")
        self.entries = entries
        self.most = most


class Unusable(Exception):
    """Nothing can be leased now; ``trouble`` says why."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.reason)
        self.trouble = trouble


class Wanted(NamedTuple):
    """What is wanted of a farm: ``keep`` in seconds, ``lasting`` if nothing may ever expire."""

    path: str
    keep: float
    most: int
    lasting: bool = False


class Status(NamedTuple):
    """All that is known of a farm.

    ``oldest``: when that entry was last asked for which goes next. The rest are counts.
    """

    wanted: Wanted
    trouble: Trouble | None
    entries: int
    oldest: float | None
    leases: int
    expiries: int
    repairs: int
