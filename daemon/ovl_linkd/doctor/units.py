"""Units of systemd: whether what needs a link waits for it, and whether the daemon may make it."""

import os
import re
import shlex
from collections.abc import Sequence

from ovl_linkd.doctor.finding import MAYBE, NOTE, OK, WRONG, Finding
from ovl_linkd.links.link import Link
from ovl_linkd.machine import units
from ovl_linkd.machine.containerd import Containerd
from ovl_linkd.machine.units import Unit

DAEMON = "ovl-linkd.service"
EARLY = "ovl-linkd-links.service"
#: why nothing else will do for a mount
NEEDS_RUN = (
    "to wait for systemd-tmpfiles-setup.service or for the daemon is an ordering cycle for what is "
    "mounted before local-fs.target; such a mount needs a link below /run"
)

# Settings that name a path without mounting by it.
_PASSIVE = re.compile(
    r"(?:ReadWrite|ReadOnly|Inaccessible|Exec|NoExec)Paths$|.*MountsFor$|Assert|Condition|Desc|Doc"
)


def findings(
    links: Sequence[Link],
    others: Sequence[str],
    containerds: Sequence[Containerd],
    root: str = "",
) -> list[Finding]:
    """What is missing in the units below ROOT. OTHERS: files beside links that the daemon makes."""
    daemon = units.load(DAEMON, root)
    places = {f"link {link.name}": link.path for link in links} | {path: path for path in others}
    found = _not_writable(places, daemon) if daemon else [_no_daemon()]
    starters = {name for each in containerds for name in each.units}
    asked = 0
    for name in units.names(root):
        unit = units.load(name, root)
        if unit is None or name.startswith("ovl-linkd"):
            continue
        used = used_links(unit, links, containerds)
        asked += bool(used)
        if used and (finding := _of(unit, used, daemon, starters, root)):
            found.append(finding)
    if not found:
        what = f"units that mount through a link: {asked}, each waits for it"
        found.append(Finding(OK, what if asked else "no unit mounts through a link"))
    return found


def _of(
    unit: Unit, used: Sequence[Link], daemon: Unit | None, starters: set[str], root: str
) -> Finding | None:
    paths = ", ".join(link.path for link in used)
    mend = f"ovl-linkd init --drop-in {shlex.quote(unit.name)} --write"
    far = [link.path for link in used if not is_early(link)]
    if lacking := _lacking(unit, daemon, root, early=not far):
        what = f"{unit.name} mounts through {paths} without {lacking}"
        why = "it may start before the link is there"
        if far and unit.name.endswith(".mount"):
            why += f"; the early links are those below /run, and {far[0]} is not: {NEEDS_RUN}"
            mend = ""
        return Finding(WRONG, what, why, mend)
    if unit.name not in starters:
        return None
    tests = unit.values("ExecStartPre")
    if all(any(mentions(test, link.path) for test in tests) for link in used):
        return None
    what = f"{unit.name} starts without a test that {paths} leads to a directory"
    why = "into a missing link it makes a directory, into a dangling one it has no snapshotter"
    return Finding(MAYBE, what, why, mend)


def used_links(unit: Unit, links: Sequence[Link], containerds: Sequence[Containerd]) -> list[Link]:
    """Those of LINKS that UNIT mounts through: it says so, or its containerd's root_path does."""
    values = [one.value for one in unit.settings if not _PASSIVE.match(one.key)]
    used = [link for link in links if any(mentions(value, link.path) for value in values)]
    for containerd in containerds:
        path = containerd.root_path
        if path and unit.name in containerd.units:
            used += [link for link in links if link not in used and mentions(path, link.path)]
    return used


def mentions(text: str, path: str) -> bool:
    """Whether PATH, or something below it, stands in TEXT as a path."""
    return re.search(rf"(?<![\w./-]){re.escape(path)}(?![\w.-])", text) is not None


def _no_daemon() -> Finding:
    what = f"{DAEMON} is not installed"
    return Finding(NOTE, what, "nothing keeps the links after a boot", "make install")


def is_early(link: Link) -> bool:
    """Whether the service EARLY makes LINK: it makes what lies below /run, and nothing else."""
    return os.path.normpath(link.path).startswith("/run/")


def _lacking(unit: Unit, daemon: Unit | None, root: str, *, early: bool) -> str:
    """What is missing for UNIT to find its links: a dependency, an order, both; or nothing.

    EARLY: whether all of them are made by that service too.
    """
    if early and unit.name.endswith(".mount") and _waits_for_early_links(unit, root):
        return ""
    makers = {DAEMON, EARLY} if early else {DAEMON}
    wanted = units.wants(unit, root) & makers
    after = unit.words("After") & makers
    if not after and daemon and unit.name in daemon.words("Before"):
        after = {DAEMON}
    missing = [] if after else [f"After={DAEMON}"]
    missing += [] if wanted else [f"Wants={DAEMON}"]
    return " and ".join(missing)


def _waits_for_early_links(unit: Unit, root: str) -> bool:
    """Mount units come after local-fs-pre.target by themselves, and the early links before it."""
    default = "no" not in unit.words("DefaultDependencies")
    return default and units.is_enabled(EARLY, root)


def _not_writable(places: dict[str, str], daemon: Unit) -> list[Finding]:
    found = []
    for what, path in places.items():
        parent = os.path.dirname(path)
        if is_writable(os.path.realpath(parent), daemon):
            continue
        what = f"{what}: {DAEMON} may not write {parent}"
        why = "its sandbox has only what ReadWritePaths= names: nothing is put right there"
        mend = f"ovl-linkd init --drop-in {DAEMON} --write"
        found.append(Finding(WRONG, what, why, mend))
    return found


def is_writable(directory: str, daemon: Unit) -> bool:
    """Whether the sandbox of DAEMON, as its unit describes it, lets it write DIRECTORY."""
    if not _is_protected(directory, daemon):
        return True
    nearest, writable = "", False
    for key in ("ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths"):
        for path in daemon.paths(key):
            if _is_below(directory, path) and len(path) > len(nearest):
                nearest, writable = path, key == "ReadWritePaths"
    return writable


def _is_protected(directory: str, daemon: Unit) -> bool:
    system = (daemon.values("ProtectSystem") or ["no"])[-1]
    if system == "strict":
        return True
    usual = {"full": ("/usr", "/boot", "/efi", "/etc"), "yes": ("/usr", "/boot", "/efi")}
    return any(_is_below(directory, each) for each in usual.get(system, ()))


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
