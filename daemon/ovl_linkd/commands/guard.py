"""With "guard: append-only" in the configuration, nobody can remove or replace an entry of the
farm, or a link that has it, neither a cleaner nor the daemon: nothing expires there before the next
boot. Links are put right first. Without it the directory is as any other again.
ovl-linkd-guard.service runs this at boot, at a reload, and with --off when it is stopped; it needs
CAP_LINUX_IMMUTABLE, which the daemon doesn't have.

Configuration in /run does not count: the daemon could write there, and this may do more than it.
Exit codes: 0 done, or nothing to do; 1 it can't be done, or the configuration is faulty.
"""

import errno
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial

from ovl_linkd import config, config_files
from ovl_linkd.errors import UserError
from ovl_linkd.links import guarding
from ovl_linkd.links.flags import set_append_only
from ovl_linkd.links.plot import Plot, Trouble
from ovl_linkd.replacing import content, replace

#: what is guarded by the standard configuration: directory -> path of a link in it -> its target.
#: Not in /run, where the daemon may write, and the flag of a disk's directory outlives a boot
MEMORY = "/var/lib/ovl-linkd-guard/guarded.json"

_REMEDIES = {
    errno.EPERM: "run it as root, with CAP_LINUX_IMMUTABLE",
    errno.EACCES: "run it as root",
    errno.EROFS: "let the unit write there: ReadWritePaths= of ovl-linkd-guard.service",
    errno.ENOENT: "start the daemon first: it makes the directory",
}
_NO_FLAG = "tmpfs has it from Linux 6.0 on, ext4, XFS and Btrfs have it: set guard to none, or move"

Guarded = dict[str, dict[str, str]]


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--off", action="store_true", help="whatever the configuration says")


def run(options: Namespace) -> int:
    """Have directories append-only, or not, as the configuration says."""
    memory = None if options.config else MEMORY
    found = _remembered(memory)
    before = found or {}
    links, farm = _configured(options.config, may_fail=options.off and bool(before))
    farms = {farm.path} if farm and farm.guard != "none" else set[str]()
    present = dict.fromkeys([*links, *([farm.path] if farm else []), *before])
    if options.off:
        links, farms = {}, set()
    wanted: Guarded = {place: {} for place in farms}
    wanted |= {place: {link.path: link.target for link in own} for place, own in links.items()}

    # First, so that whatever is guarded is known, and what its links said before they are mended.
    kept = {place: wanted.get(place, {}) | before.get(place, {}) for place in wanted | before}
    _remember(memory, found, kept)
    noted = dict(kept)
    troubles: list[Trouble] = []
    done: list[str] = []
    for place in present:
        remembered = before.get(place, {})
        if place in links:
            trouble = _trying(place, partial(guarding.guard, place, links[place], remembered))
        else:
            trouble = _trying(place, partial(_set, place, place in farms, done))
        if trouble:
            troubles.append(trouble)
        elif place in wanted:
            kept[place] = guarding.stale(place, remembered) | wanted[place]
            done.append(f"{place}: append-only")
        else:
            kept.pop(place, None)
    _remember(memory, noted, kept)
    if not done and not troubles and not options.off:
        done = ["nothing is to be guarded"]
    print("".join(f"{line}\n" for line in done), end="")
    if troubles:
        remedies = dict.fromkeys(trouble.remedy for trouble in troubles)
        raise UserError("\n".join(trouble.reason for trouble in troubles), "; ".join(remedies))
    return 0


def _set(place: str, wanted: bool, done: list[str]) -> Trouble | None:
    """Set or clear the flag of the directory PLACE, and say what was DONE."""
    if not wanted and not os.path.lexists(place):
        return None
    if obstacle := Plot(place).obstacle():
        return obstacle
    if set_append_only(place, wanted) and not wanted:
        done.append(f"{place}: not append-only any more")
    return None


def _trying(place: str, change: Callable[[], Trouble | None]) -> Trouble | None:
    """What CHANGE returns; an OSError of the directory PLACE is trouble, too."""
    try:
        return change()
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, f"{_NO_FLAG} it")
        return Trouble("failing", f"{error.strerror}: {place}", remedy)


def _configured(
    file: str | None, *, may_fail: bool
) -> tuple[dict[str, list[config.Link]], config.Farm | None]:
    """The directories to be guarded with their links, and the farm; neither if it MAY_FAIL."""
    try:
        known = config.load(file, roots=config_files.LASTING)
    except config.ConfigError as error:
        if may_fail:
            return {}, None
        raise error.told(file) from None
    return guarding.directories(known.links), known.farm


def _remembered(memory: str | None) -> Guarded | None:
    """What was guarded, by the file MEMORY; nothing without one. Raises UserError.

    None, and says so, for a file that is damaged: what the configuration names can be guarded, or
    guarded no more, all the same.
    """
    try:
        text = memory and content(memory)
    except OSError as error:
        raise _failing(error, memory) from None
    try:
        guarded = json.loads(text)["guarded"] if text else {}
        return {place: {**links} for place, links in guarded.items()}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        left = (
            "a directory that the configuration doesn't name any more is left as it is: chattr -a"
        )
        print(f"ovl-linkd guard: {memory} is damaged and made anew; {left}", file=sys.stderr)
        return None


def _remember(memory: str | None, before: Guarded | None, guarded: Guarded) -> None:
    """Have the file MEMORY, of which BEFORE was read, say GUARDED. Raises UserError."""
    if memory is None or guarded == before:
        return
    try:
        if not guarded:
            if os.path.lexists(memory):
                os.unlink(memory)
            return
        os.makedirs(os.path.dirname(memory), 0o755, exist_ok=True)
        replace(memory, json.dumps({"guarded": guarded}), durable=True)
    except OSError as error:
        raise _failing(error, memory) from None


def _failing(error: OSError, memory: str | None) -> UserError:
    denied = error.errno in (errno.EACCES, errno.EPERM)
    remedy = "run it as root" if denied else f"see what is wrong with {memory}, and with the disk"
    return UserError(f"{error.strerror}: {memory}", remedy)
