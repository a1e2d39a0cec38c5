"""The mounts of this machine, in every mount namespace that this process may look into.

Source: proc_pid_mountinfo(5), and seq_show_option() in the kernel's include/linux/seq_file.h for
the escapes. Everything is bytes: paths are anybody's to choose.
"""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from ovl_linkd.overlay.options import LIST, RAW, SPELLING, layers_of
from ovl_linkd.overlay.prefixes import unescape as without_escapes

_OCTAL = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of mountinfo.

    ``device``: ``major:minor``, one for each superblock, the same in every namespace. ``options``:
    of the mount; ``super_options``: of the file system, its octal escapes kept. ``size``: bytes of
    the line without its newline.
    """

    device: bytes
    point: bytes
    options: bytes
    fstype: bytes
    super_options: bytes
    size: int


class Namespace(NamedTuple):
    """A mount namespace: a process in it, that process' name, and its overlays, each once."""

    pid: int
    name: str
    mounts: tuple[Mount, ...]


class Layers(NamedTuple):
    """The paths of an overlay mount, unescaped, the topmost layer first.

    ``size``: bytes that ``lowerdir``, ``upperdir`` and ``workdir`` take in mount options; what else
    was given stands in mountinfo only where it differs from the kernel's defaults.
    """

    lower: tuple[bytes, ...]
    upper: bytes | None
    work: bytes | None
    size: int


def parse(text: bytes) -> Iterator[Mount]:
    """The mounts in TEXT, the content of a mountinfo; lines of another form are left out."""
    return filter(None, map(_mount, text.split(b"\n")))


def _mount(line: bytes) -> Mount | None:
    fields = line.split(b" ")
    try:
        dash = fields.index(b"-", 6)
        return Mount(
            device=fields[2],
            point=unescape(fields[4]),
            options=fields[5],
            fstype=fields[dash + 1],
            super_options=fields[dash + 3],
            size=len(line),
        )
    except (ValueError, IndexError):
        return None


def unescape(field: bytes) -> bytes:
    r"""Return FIELD without the octal escapes: ``\040`` is a space."""
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field)


def layers(mount: Mount) -> Layers:
    """What the overlay MOUNT is made of, by the text it was given."""
    lower: list[bytes] = []
    single: dict[bytes, bytes] = {}
    sizes = []
    # A comma within a value is escaped, so that these are the options' own.
    for part in mount.super_options.split(b","):
        name, equals, value = part.partition(b"=")
        kind = SPELLING.get(name)
        if not equals or kind is None:
            continue
        # What is left is the text that was given: with the escapes that the option calls for.
        value = unescape(value)
        if kind == LIST:
            lower = list(map(without_escapes, layers_of(value)))
        elif kind == RAW:
            lower.append(value)
        else:
            single[name] = without_escapes(value)
        sizes.append(len(name) + 1 + len(value))
    size = sum(sizes) + max(0, len(sizes) - 1)
    return Layers(tuple(lower), single.get(b"upperdir"), single.get(b"workdir"), size)


def namespaces(proc: str = "/proc") -> tuple[list[Namespace], int]:
    """Every distinct mount namespace that can be read, this process' first; how many can't.

    What can't be read is counted in processes: which namespace one is in is not known either.
    """
    seen: set[str] = set()
    found: list[Namespace] = []
    known: dict[bytes, bytes] = {}
    hidden = 0
    mine = os.getpid()
    for pid in sorted(_pids(proc), key=lambda pid: (pid != mine, pid)):
        try:
            identity = os.readlink(f"{proc}/{pid}/ns/mnt")
            if identity in seen:
                continue
            mounts = _overlays(f"{proc}/{pid}/mountinfo", known)
            with open(f"{proc}/{pid}/comm", encoding="utf-8", errors="replace") as file:
                name = file.read().strip()
        except PermissionError:
            hidden += 1
        except OSError:
            continue  # it has ended, or is ending: a process without mounts
        else:
            seen.add(identity)
            found.append(Namespace(pid, name, mounts))
    return found, hidden


def _overlays(path: str, known: dict[bytes, bytes]) -> tuple[Mount, ...]:
    """The overlays in the mountinfo at PATH, each once however often it is bound elsewhere.

    Line by line, and every text of options only once, in KNOWN: users may have very many mounts in
    namespaces of their own, and copies of long ones.
    """
    found: dict[tuple[bytes, bytes], Mount] = {}
    with open(path, "rb") as lines:
        for line in lines:
            mount = _mount(line.rstrip(b"\n")) if b" - overlay " in line else None
            if mount is None or mount.fstype != b"overlay":
                continue
            options = known.setdefault(mount.super_options, mount.super_options)
            found.setdefault((mount.device, options), mount._replace(super_options=options))
    return tuple(found.values())


def _pids(proc: str) -> list[int]:
    return [int(name) for name in os.listdir(proc) if name.isdigit()]
