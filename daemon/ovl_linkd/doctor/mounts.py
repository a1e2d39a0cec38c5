"""Overlay mounts that are already wrong, in every mount namespace that may be looked into.

A cut leaves traces: as many bytes of options as mount(2) reads, and a last layer that is only the
beginning of a path. Either alone may be meant; both together are not.
"""

import os
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from ovl_linkd.doctor.finding import MAYBE, OK, UNKNOWN, WRONG, Finding
from ovl_linkd.machine import mountinfo
from ovl_linkd.machine.mountinfo import Layers, Mount, Namespace
from ovl_linkd.overlay import limits

# Options that mountinfo doesn't show where they are the default: index=off, xino=off, metacopy=off,
# redirect_dir=off, … Beside the paths, a cut text may have held so many bytes of them.
_UNSEEN = 64
# And the rest of a line in fstab, where it was the line that was cut.
_REST_OF_LINE = 600
_GO = 65_535  # the longest line that Go's bufio.Scanner reads


class Place(NamedTuple):
    """Where a mount was seen: a process whose namespace it is in, and in how many it is."""

    namespace: Namespace
    namespaces: int


def findings(proc: str = "/proc", most: int | None = None) -> list[Finding]:
    """A finding for each overlay that is, or may be, wrong. MOST: bytes that mount(2) reads."""
    most = limits.of_this_kernel().mount if most is None else most
    namespaces, hidden = mountinfo.namespaces(proc)
    overlays = _overlays(namespaces)
    found = [finding for mount, place in overlays for finding in judge(mount, place, most)]
    if not found:
        many = f"overlay mounts: {len(overlays)} in {len(namespaces)} mount namespaces"
        found.append(Finding(OK, f"{many}, none looks cut"))
    if hidden:
        whose = "a process" if hidden == 1 else f"{hidden} processes"
        what = f"the mounts of {whose} could not be looked into"
        mend = "run it as root" if os.geteuid() else ""
        found.append(Finding(UNKNOWN, what, "not even root is let in" if not mend else "", mend))
    return found


def _overlays(namespaces: list[Namespace]) -> list[tuple[Mount, Place]]:
    """Every overlay once: copies of a mount, and a mount in several namespaces, are one device."""
    first: dict[tuple[bytes, bytes], tuple[Mount, Namespace]] = {}
    within: dict[tuple[bytes, bytes], set[int]] = {}
    for namespace in namespaces:
        for mount in namespace.mounts:
            key = (mount.device, mount.super_options)
            first.setdefault(key, (mount, namespace))
            within.setdefault(key, set()).add(namespace.pid)
    return [(mount, Place(at, len(within[key]))) for key, (mount, at) in first.items()]


def judge(mount: Mount, place: Place, most: int) -> Iterator[Finding]:
    """What is wrong with the overlay MOUNT, or may be; MOST bytes are what mount(2) reads."""
    layers = mountinfo.layers(mount)
    where = _where(mount, place)
    again, mend = _again(mount, place)
    if mount.size > limits.of_this_kernel().mountinfo:
        level = WRONG if mount.size > _GO else MAYBE
        what = f"{where}: its line in mountinfo has {mount.size:,} bytes"
        why = "Go programs stop reading at 65,536: runc and others fail on this machine"
        yield Finding(level, what, f"{why}; {again}", mend)
    if verdict := _verdict(mount, layers, most):
        level, what, why = verdict
        yield Finding(level, f"{where}: {what}", f"{why}; {again}", mend)


def _verdict(mount: Mount, layers: Layers, most: int) -> tuple[str, str, str] | None:
    """(level, what, why) for a mount that was, or may have been, cut."""
    room = most - layers.size
    size = f"{layers.size:,} bytes of options"
    ragged = _ragged(layers.lower)
    read_only = b"ro" in mount.super_options.split(b",")
    lost = layers.upper is None and read_only and b"rw" in mount.options.split(b",")
    upper = ", and no upperdir though it was not mounted read-only" if lost else ""
    cut = f"mount(2) reads {most:,} bytes and drops the rest without an error"
    if 0 <= room <= _UNSEEN:
        if ragged:
            return WRONG, f"{size}, cut: {ragged}{upper}", cut
        if b"lowerdir+=" in mount.super_options:
            return None  # given one by one, through fsconfig(2), which cuts nothing
        if lost:
            return MAYBE, f"{size}: layers and the upperdir may be cut off{upper}", cut
        return MAYBE, f"{size}, just what fits: layers may be cut off", f"{cut}; count them"
    if ragged and 0 <= room <= _REST_OF_LINE and _is_above(layers.lower):
        why = "a line of fstab past 4,095 bytes, which systemd's generator cuts, looks like this"
        return WRONG, f"{size}, cut: {ragged}{upper}", why
    if len(layers.lower) > 1 and layers.lower[-1] == b"/":
        why = "right if it was meant; what is left of a path that was cut looks like this"
        return MAYBE, f"/, the root directory, is the last of {len(layers.lower)} layers", why
    return None


def _ragged(lower: tuple[bytes, ...]) -> str | None:
    """How the last layer differs from all the others, where it looks like the start of a path."""
    if len(lower) < 2:
        return None
    *others, last = lower
    shown = os.fsdecode(last)
    if last == b"/":
        return f"/, the root directory, is the last of {len(lower)} layers"
    if _is_above(lower):
        return f"the last of {len(lower)} layers is {shown}, a directory above the others"
    if _is_shorter(others, last):
        name = os.fsdecode(os.path.basename(others[0]))
        return f"the last of {len(lower)} layers is {shown}, the others end in /{name}"
    return None


def _is_shorter(others: list[bytes], last: bytes) -> bool:
    """Whether LAST is P/209 where all OTHERS are like P/210/fs."""
    names = {os.path.basename(layer) for layer in others}
    last = last.rstrip(b"/")
    if len(others) < 3 or len(names) > 1 or os.path.basename(last) in names:
        return False
    try:
        common = os.path.commonpath(others)
    except ValueError:  # absolute and relative ones
        return False
    same_place = last.startswith(common.rstrip(b"/") + b"/") if common else b"/" not in last
    return same_place and last.count(b"/") < min(layer.count(b"/") for layer in others)


def _is_above(lower: tuple[bytes, ...]) -> bool:
    """Whether the last layer is a directory on the way to another one."""
    above = lower[-1].rstrip(b"/") + b"/"
    return any(layer.startswith(above) for layer in lower[:-1])


def _where(mount: Mount, place: Place) -> str:
    point = os.fsdecode(mount.point)
    if place.namespace.pid == os.getpid():
        return point
    more = f" and {place.namespaces - 1} more" if place.namespaces > 1 else ""
    return f"{point} (in the namespace of {place.namespace.name}, pid {place.namespace.pid}{more})"


def _again(mount: Mount, place: Place) -> tuple[str, str]:
    """How to have it right, and the command for it: none where it would be a container's own."""
    pid, name, _ = place.namespace
    if pid != os.getpid():
        return f"restart what runs as pid {pid} ({name})", ""
    if mount.point == b"/":
        return "it can't be unmounted: correct what mounts it at the boot", ""
    again = "unmount it, and mount it again with what `ovl-linkd rewrite` makes of the list"
    return again, f"umount -- {shlex.quote(os.fsdecode(mount.point))}"
