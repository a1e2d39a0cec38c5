"""The kept links: how they are on disk, and how many layers they make room for."""

import os
import shlex
from collections.abc import Sequence

from ovl_linkd.doctor.finding import MAYBE, OK, UNKNOWN, WRONG, Finding
from ovl_linkd.links.flags import NOT_SET, SET, is_append_only
from ovl_linkd.links.link import Link, observe
from ovl_linkd.overlay.limits import capacity, of_this_kernel

_START = "systemctl enable --now ovl-linkd"


def findings(links: Sequence[Link], kept: bool) -> list[Finding]:
    """A finding for each link. KEPT: whether a daemon runs, which knows why it did not make one."""
    if not links:
        return [Finding(MAYBE, "no link is configured", "", "ovl-linkd init --print")]
    found = [_of(link, kept) for link in links]
    if not kept:
        why = "a link that something removes stays away, and nobody gets names of a farm"
        found.append(Finding(MAYBE, "the daemon is not running", why, _START))
    return found


def _of(link: Link, kept: bool) -> Finding:
    seen = observe(link)
    limits = of_this_kernel()
    plain = capacity(os.fsencode(link.target), limits)
    short = capacity(os.fsencode(link.path), limits)
    room = f"one mount(2) holds {plain} layers by the long names, {short} through {link.path}"
    if seen.state == "ok":
        if seen.target_exists is None:
            what = f"link {link.name}: what is behind {link.target} can't be seen by this user"
            return Finding(UNKNOWN, what, room, "run it as root")
        if link.guard != "none" and not is_append_only(os.path.dirname(link.path)):
            what = f"link {link.name} is ok, but {NOT_SET}"
            return Finding(MAYBE, what, f"a cleaner may take it for a moment; {room}", SET)
        return Finding(OK, f"link {link.name} is ok: {room}")
    what = f"link {link.name} is {seen.state}: {seen.reason or link.path}"
    if seen.state == "dangling":
        return Finding(
            MAYBE, what, "right only as long as its owner has not run", seen.remedy or ""
        )
    repair = f"ovl-linkd repair {shlex.quote(link.name)}"
    mend = seen.remedy or repair
    if seen.state == "missing":
        mend = repair if kept else _START
    return Finding(WRONG, what, "what mounts through it fails", mend)
