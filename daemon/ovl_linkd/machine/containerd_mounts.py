"""How a containerd mounts the layers of an image, by its release, and for how many it has room.

Sources: its mount/mount_linux.go, which makes the layers relative by chdir(2) once the options
reach a page less 512 bytes, since 1.1.4 and 1.2; its snapshots/overlay/plugin, which takes a
root_path since 1.5.
"""

import os
from typing import NamedTuple

from ovl_linkd.machine.containerd import Containerd
from ovl_linkd.overlay.limits import Limits, capacity

Release = tuple[int, int, int]

_ROOT_PATH: Release = (1, 5, 0)
_RELATIVE: Release = (1, 1, 4)
# It adds up the options without the three commas between them, and must stay below the 512.
_SPARED = 509


class Room(NamedTuple):
    """So many layers fit, each number as long as those of the snapshots that are there.

    ``absolute``: by their paths as they are; ``relative``: those that it makes of them.
    """

    absolute: int
    relative: int


def takes_root_path(release: Release) -> bool:
    """Whether this RELEASE can be told where its snapshotter's root is."""
    return release >= _ROOT_PATH


def makes_relative(release: Release) -> bool:
    """Whether this RELEASE turns to relative paths where the absolute ones don't fit."""
    return release >= _RELATIVE


def room(containerd: Containerd, root: str, limits: Limits) -> Room:
    """The room of CONTAINERD, were its snapshotter's root called ROOT."""
    prefix = os.fsencode(f"{root.rstrip('/')}/snapshots")
    digits = _digits(containerd)
    release = containerd.release
    if release and not makes_relative(release):
        return Room(capacity(prefix, limits, digits), 0)
    absolute = capacity(prefix, limits._replace(mount=limits.mount - _SPARED), digits)
    layer = digits + len("/fs:")
    fixed = len(b"index=off,workdir=/work,upperdir=/fs,lowerdir=") + 2 * (len(prefix) + 1 + digits)
    relative = (limits.mount - fixed + 1) // layer
    return Room(absolute, min(limits.layers, max(relative, absolute)))


def _digits(containerd: Containerd) -> int:
    """How long the number of the next snapshot is: three where that can't be seen."""
    try:
        names = os.listdir(f"{containerd.root_path or containerd.snapshotter}/snapshots")
    except OSError:
        return 3
    return max([3, *(len(name) for name in names if name.isdigit())])
