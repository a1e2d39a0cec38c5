"""Kept links in directories that are append-only: nobody can remove or replace one there.

Nobody is also the daemon, so that who has CAP_LINUX_IMMUTABLE puts right what is wrong, too. Such a
directory holds nothing else: the flag would keep others from what is theirs.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence

from ovl_linkd.links.exchange import spare_path
from ovl_linkd.links.flags import is_append_only, set_append_only
from ovl_linkd.links.keeper import Keeper
from ovl_linkd.links.link import Link, is_right
from ovl_linkd.links.plot import Plot, Trouble

_ATTEMPTS = 4  # to have links right that are replaced just before the flag is set


def directories(links: Iterable[Link]) -> dict[str, list[Link]]:
    """The directories that are to be guarded, each with its LINKS."""
    found: dict[str, list[Link]] = {}
    for link in links:
        if link.guard != "none":
            found.setdefault(os.path.dirname(link.path), []).append(link)
    return found


def guard(directory: str, links: Sequence[Link], remembered: Mapping[str, str]) -> Trouble | None:
    """Put LINKS right and make their DIRECTORY append-only; why it isn't, if it can't be.

    REMEMBERED maps paths to what symlinks there said when they were last guarded, also of links
    that are wanted no more. Raises OSError as set_append_only() does; a directory that had the
    flag has it in the end, whatever happened.
    """
    for _ in range(_ATTEMPTS):
        trouble = Plot(directory).obstacle() or _stranger(directory, links, remembered)
        if not trouble and not _is_tidy(directory, links):
            trouble = _mend(directory, links, remembered)
        if trouble:
            return trouble
        set_append_only(directory, True)
        if all(map(is_right, links)):
            return None
    path = next(link.path for link in links if not is_right(link))
    return Trouble("wrong", f"somebody keeps replacing {path}", "find out who, then try again")


def stale(directory: str, remembered: Mapping[str, str]) -> dict[str, str]:
    """What of REMEMBERED is still in DIRECTORY as it was."""
    return {
        path: text
        for path, text in remembered.items()
        if os.path.dirname(path) == directory and is_right(Link("", path, text))
    }


def _stranger(
    directory: str, links: Sequence[Link], remembered: Mapping[str, str]
) -> Trouble | None:
    """What in DIRECTORY is neither one of LINKS, or was, nor a temporary name of ours."""
    ours = {link.path for link in links} | stale(directory, remembered).keys()
    spares = {spare_path(link) for link in links}
    for entry in _entries(directory):
        if entry.path not in spares and not (entry.path in ours and entry.is_symlink()):
            reason = f"{entry.path} is no kept link, and {directory} may hold nothing else"
            return Trouble("blocked", reason, _unguarded("move it away"))
    return None


def _unguarded(remedy: str) -> str:
    """REMEDY, for which the flag must not be set."""
    return f"systemctl stop ovl-linkd-guard; {remedy}; systemctl start ovl-linkd-guard"


def _is_tidy(directory: str, links: Sequence[Link]) -> bool:
    spares = {spare_path(link) for link in links}
    left = any(entry.path in spares for entry in _entries(directory))
    return not left and all(map(is_right, links))


def _entries(directory: str) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _mend(directory: str, links: Sequence[Link], remembered: Mapping[str, str]) -> Trouble | None:
    """Put LINKS right with the flag off, and say what is in the way."""
    guarded = is_append_only(directory)
    if guarded:
        set_append_only(directory, False)
    try:
        keeper = Keeper(time.monotonic, dict(remembered))
        keeper.want(links)
        keeper.sweep()
        keeper.insist(keeper.names, time.monotonic())
        for status in keeper.statuses():
            if status.state not in ("ok", "dangling"):
                remedy = status.remedy or ""
                if guarded and remedy:
                    remedy = _unguarded(remedy)
                return Trouble(status.state, f"{status.link.path}: {status.reason}", remedy)
        return None
    finally:
        if guarded:
            set_append_only(directory, True)
