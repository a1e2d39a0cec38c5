"""Drop-ins for systemd: for what must find a link, and for the daemon where a link needs it."""

import errno
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from ovl_linkd.doctor.containerd import kept_root
from ovl_linkd.doctor.units import DAEMON, EARLY, NEEDS_RUN, is_early, used_links
from ovl_linkd.errors import UserError
from ovl_linkd.formats import unit as words
from ovl_linkd.links.link import Link
from ovl_linkd.machine import units
from ovl_linkd.machine.containerd import PLUGIN, Containerd
from ovl_linkd.replacing import content, replace

DIRECTORY = "/etc/systemd/system"
NAME = "ovl-linkd.conf"
#: the first line of a file that may be replaced
MARK = "# Written by ovl-linkd init; remove this line to keep your changes."

_SUFFIXES = (".service", ".mount", ".automount", ".socket", ".path", ".target", ".timer", ".scope")

_WHY = (
    "# A fresh node has no target yet. What starts without the link may make a directory in its",
    "# place; containerd does, and into a dangling link it starts without its snapshotter.",
)
# Who looks why the unit does not start finds the words in its journal.
_CHECK = (
    """'test -L "$$0" && test -d "$$0" && test "$$0" -ef "$$1" """
    """|| { echo "$$0 does not lead to $$1: ovl-linkd status" >&2; exit 1; }'"""
)
_START = re.compile(r"([-:+!@]*)(\S+)(.*)")  # systemd.service(5)


class DropIn(NamedTuple):
    """A drop-in: the file it belongs into, and its text."""

    file: str
    text: str


def full_name(unit: str) -> str:
    """The name of UNIT with its suffix, a service's if it has none. Raises UserError."""
    if not unit or "/" in unit or not unit.isprintable():
        raise UserError(f"{unit!r} is no name of a unit", "for instance containerd.service", 2)
    return unit if unit.endswith(_SUFFIXES) else f"{unit}.service"


def choose(
    unit: str,
    links: Sequence[Link],
    named: Sequence[str],
    containerds: Sequence[Containerd],
    root: str = "",
) -> list[Link]:
    """The links that UNIT needs: those NAMED, else those that it mounts through.

    CONTAINERDS: the machine's own first.

    Raises UserError where that can't be known.
    """
    by_name = {link.name: link for link in links}
    if unknown := [name for name in named if name not in by_name]:
        raise UserError(f"no link is named {unknown[0]}", "ovl-linkd check lists them", 2)
    if named:
        return [by_name[name] for name in named]
    loaded = units.load(unit, root)
    if loaded and (used := used_links(loaded, links, containerds)):
        return used
    if unit.startswith("containerd"):
        kept = kept_root(links, containerds[0])
        near = [kept] if kept else [link for link in links if PLUGIN in link.target]
        if near:
            return near
    if len(links) == 1:
        return [links[0]]
    names = ", ".join(by_name) or "none is configured"
    raise UserError(f"can't tell which links {unit} needs", f"say --link NAME: {names}", 2)


def for_user(unit: str, links: Sequence[Link]) -> DropIn:
    """The drop-in for UNIT, which must not start before LINKS lead to their targets.

    Raises UserError for a mount whose link is not made early enough.
    """
    if unit.endswith(".mount"):
        if far := [link.path for link in links if not is_early(link)]:
            raise UserError(f"{far[0]} is not made in time for {unit}", NEEDS_RUN)
        # The daemon runs after all local mounts: to wait for it would be an ordering cycle.
        lines = _unit_section(EARLY, [])
    else:
        lines = _unit_section(DAEMON, [link.target for link in links])
    if unit.endswith(".service"):
        lines += ["", "[Service]", *_WHY, *(line for link in links for line in _service(link))]
    return _drop_in(unit, lines)


def for_exec(unit: str, start: str, program: str, called: str = "") -> DropIn:
    """The drop-in that has UNIT started by `ovl-linkd exec`, PROGRAM, in front of what START says.

    START: the unit's ExecStart=; where it has none, what is called like UNIT is meant. CALLED: how
    the journal calls it, if not by its file's name.
    """
    found = _START.fullmatch(start) or _START.fullmatch(f"/usr/bin/{unit.partition('.')[0]}")
    assert found
    flags, command, words = found.groups()
    if "@" in flags:  # the next word is the name that it goes by, which exec can't give it
        words = re.sub(r"^\s+\S+", "", words)
    lines = [
        *_unit_section(DAEMON, []),
        "",
        "[Service]",
        "# Containers that it starts can mount as long as they live, whatever becomes of it.",
        "ExecStart=",
        f"ExecStart={flags.replace('@', '')}{program} exec -- {command}{words}",
        f"SyslogIdentifier={called or os.path.basename(command)}",
    ]
    return _drop_in(unit, lines)


def _unit_section(service: str, targets: Sequence[str]) -> list[str]:
    lines = [
        "[Unit]",
        f"# Not Requires=: a restart of {service} must not restart this unit.",
        f"Wants={service}",
        f"After={service}",
    ]
    paths = [word for target in targets if (word := words.path(target)) is not None]
    if paths:
        lines.append("# A target must not be made below a file system that is not mounted yet.")
        lines += [f"RequiresMountsFor={path}" for path in paths]
    return lines


def _service(link: Link) -> list[str]:
    path, target = words.argument(link.path), words.argument(link.target)
    lines = []
    outer, inner = _directories(link.target)
    if outer is not None:
        lines.append(f"ExecStartPre=+/usr/bin/mkdir -p -m 0711 -- {words.argument(outer)}")
    made = " ".join(map(words.argument, inner))
    lines += [
        f"ExecStartPre=+/usr/bin/mkdir -p -m 0700 -- {made}",
        f"ExecStartPre=+/bin/sh -c {_CHECK} {path} {target}",
    ]
    return lines


def _directories(target: str) -> tuple[str | None, list[str]]:
    """What to make for TARGET: containerd's root, which it makes 0711, and what is 0700 below."""
    target = os.path.normpath(target)
    root, found, _ = target.partition(f"/{PLUGIN}")
    if not found or not root:
        return None, [target]
    inner = [target]
    while os.path.dirname(inner[0]) != root:
        inner.insert(0, os.path.dirname(inner[0]))
    return root, inner


def for_daemon(directories: Sequence[str]) -> DropIn:
    """The drop-in that lets the daemon write DIRECTORIES, parents of links outside /run.

    Raises UserError for one that a unit file can't name.
    """
    paths = []
    for directory in directories:
        path = words.path(directory)
        if path is None:
            raise UserError(f"a unit file can't name {directory!r}", "have the link elsewhere")
        paths.append(path)
    lines = ["[Unit]", *(f"RequiresMountsFor={path}" for path in paths), "", "[Service]"]
    lines.append("# With a minus: without the directory its link waits, and the others are kept.")
    # The minus stands before the path itself, within its quotes.
    lines += [f"ReadWritePaths={_with_minus(path)}" for path in paths]
    return _drop_in(DAEMON, lines)


def _with_minus(path: str) -> str:
    return f'"-{path[1:]}' if path.startswith('"') else f"-{path}"


def write(drop_in: DropIn, root: str = "") -> str:
    """Put DROP_IN in its place; what was done. Raises UserError where another file is there."""
    path = root + drop_in.file
    try:
        present = content(path)
        if present == drop_in.text:
            return f"{path} is right already"
        if present is not None and present.partition("\n")[0] != MARK:
            raise UserError(
                f"{path} was not written by ovl-linkd and is left alone",
                "compare it with what is printed without --write",
            )
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        replace(path, drop_in.text)
    except OSError as error:
        denied = error.errno in (errno.EPERM, errno.EACCES)
        hint = "run it as root" if denied else "see what is wrong with the directory, and the disk"
        raise UserError(f"{error.strerror}: {error.filename or path}", hint) from None
    return f"{path} written; systemctl daemon-reload makes systemd read it"


def _drop_in(unit: str, lines: Sequence[str]) -> DropIn:
    return DropIn(f"{DIRECTORY}/{unit}.d/{NAME}", "\n".join([MARK, *lines, ""]))
