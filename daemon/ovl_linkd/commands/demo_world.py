"""The place where the demo happens: private mounts, real layers, and the kernel as it stands."""

import os
import signal
import sys
from typing import NamedTuple

from ovl_linkd.overlay import mounting

SNAPSHOTS = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
MERGED = "/run/merged"
_TOPMOST = 1028  # with it, the page ends just before a colon: see containers()

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(pipe: int) -> None:
    """Be killed when the parent dies, however it dies; PIPE leads to it.

    Ctrl-C reaches the parent alone, which then ends everything.
    """
    import ctypes
    import select

    os.setsid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    poll = select.poll()
    poll.register(pipe, 0)
    if poll.poll(0):
        os._exit(1)  # it died before it was said


def enter() -> None:
    """Leave this machine's mounts for private ones, with fresh /run and /var/lib/containerd.

    Nothing is made on a file system of this machine: where /var/lib/containerd doesn't exist,
    all of /var/lib is hidden. Raises OSError, also where these may not hold an overlay.
    """
    os.umask(0o022)  # what others may write the daemon refuses
    mounting.private_mount_namespace()
    _cover("/run")
    _cover("/var/lib/containerd" if os.path.isdir("/var/lib/containerd") else "/var/lib")
    os.makedirs(SNAPSHOTS)
    os.mkdir(MERGED)
    mounting.mount_overlay("probe", MERGED, f"lowerdir={SNAPSHOTS}:/run".encode())
    mounting.umount(MERGED)
    try:
        mounting.mount("proc", "/proc", "proc")
    except OSError:
        pass  # in a container that hides parts of /proc; nothing here depends on pids in it


def _cover(directory: str) -> None:
    """Put an empty file system over DIRECTORY; what Python runs from stays visible."""
    kept = {name: os.open(f"{directory}/{name}", os.O_PATH) for name in _used_by_python(directory)}
    mounting.mount("ovl-linkd-demo", directory, "tmpfs", mounting.MS_NODEV, b"mode=0755")
    for name, descriptor in kept.items():
        os.mkdir(f"{directory}/{name}")
        source = f"/proc/self/fd/{descriptor}"
        mounting.mount(source, f"{directory}/{name}", "", mounting.MS_BIND | mounting.MS_REC)
        os.close(descriptor)


def _used_by_python(directory: str) -> set[str]:
    """The names in DIRECTORY under which Python, or this program, is installed."""
    given = [*sys.path, __file__, sys.executable, sys.prefix, sys.base_prefix]
    paths = {find(path) for path in given for find in (os.path.abspath, os.path.realpath)}
    inside = f"{directory}/"
    names = {path.removeprefix(inside).split("/")[0] for path in paths if path.startswith(inside)}
    return {name for name in names if os.path.isdir(inside + name)}


class Container(NamedTuple):
    """A container as containerd mounts it: its own snapshot's id, and those of its image's layers.

    ``ids``: from the top.
    """

    own: int
    ids: range

    def options(self) -> bytes:
        """Its mount options, by the layers' own paths, in containerd's order."""
        lower = ":".join(f"{SNAPSHOTS}/{number}/fs" for number in self.ids)
        own = f"{SNAPSHOTS}/{self.own}"
        return f"index=off,workdir={own}/work,upperdir={own}/fs,lowerdir={lower}".encode()


def containers(layers: int) -> tuple[Container, Container]:
    """Make the layers of two containers, whose ids differ by one; return them.

    Their options differ by one byte, which decides where a page of 4,096 bytes ends: in the
    first, within a name; in the second, just before a colon.
    """
    lowest = _TOPMOST - layers
    for number in range(lowest, _TOPMOST + 2):
        _make_layer(number)
    return (
        Container(_TOPMOST + 1, range(_TOPMOST, lowest, -1)),
        Container(_TOPMOST, range(_TOPMOST - 1, lowest - 1, -1)),
    )


def _make_layer(number: int) -> None:
    """A snapshot: a file of its own, and one by which it must hide that of the layer below."""
    layer = f"{SNAPSHOTS}/{number}/fs"
    os.makedirs(f"{layer}/layer")
    os.mkdir(f"{layer}/winner")
    os.mkdir(f"{SNAPSHOTS}/{number}/work")
    for name in (f"layer/{number}", f"winner/{number}", f"winner/{number + 1}"):
        with open(f"{layer}/{name}", "w") as file:
            file.write(str(number))


class Seen(NamedTuple):
    """What is mounted, counted by the files in it: how many layers, whether each hides the next."""

    layers: int
    in_order: bool


def look(container: Container) -> Seen:
    """Count the layers of CONTAINER at MERGED."""
    found = {int(name) for name in os.listdir(f"{MERGED}/layer")} & set(container.ids)
    return Seen(len(found), all(_winner(number) == number for number in found))


def _winner(number: int) -> int:
    with open(f"{MERGED}/winner/{number}") as file:
        return int(file.read())


def mount_uncut(options: bytes) -> int:
    """Mount OPTIONS at MERGED as any program does that knows nothing of the page; 0 or the errno.

    The one place in this program that lets the kernel cut options: to show what comes of it.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    flags = ctypes.c_ulong(0)
    if libc.mount(b"overlay", os.fsencode(MERGED), b"overlay", flags, options) == 0:
        return 0
    return ctypes.get_errno()
