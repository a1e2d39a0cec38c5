"""What may be asked of a farm, how it answers, and how it stands: values and exceptions."""

import os
import stat
from typing import NamedTuple

from ovl_linkd.links.plot import Trouble
from ovl_linkd.links.walk import PATH_MAX


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


def layer(path: str, farm: str) -> str:
    """The directory PATH, which is to be leased, as the text of a symlink in FARM.

    Raises NotALayer.
    """
    if not path.startswith("/") or "\0" in path:
        raise NotALayer(path, "not an absolute path")
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError:
        raise NotALayer(path, "no path has these characters") from None
    if size > PATH_MAX:
        raise NotALayer(path, f"{size:,} bytes, a symlink holds {PATH_MAX:,}")
    # What is spelt otherwise is the same directory, but for `..` behind a symlink.
    target = "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
    if f"{target}/".startswith(f"{farm}/"):
        raise NotALayer(path, "it lies in the farm itself, whose entries go")
    try:
        if stat.S_ISDIR(os.stat(target).st_mode):
            return target
    except OSError as error:
        raise NotALayer(path, error.strerror or str(error)) from None
    raise NotALayer(path, "not a directory")
