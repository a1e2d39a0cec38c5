"""How much the kernel takes. Plain values, passed in, so that other machines can be tested here."""

import os
from typing import NamedTuple


class Limits(NamedTuple):
    """What the kernel takes, in bytes but for ``layers``.

    ``mount``: options of mount(2), one page less the last byte, which is zeroed; what is longer is
    dropped without an error (fs/namespace.c, copy_mount_options).
    ``fsconfig``: one value of fsconfig(2) (fs/fsopen.c, FSCONFIG_SET_STRING).
    ``layers``: lower layers of one overlay (fs/overlayfs/params.h, OVL_MAX_STACK).
    ``mountinfo``: the longest line that may be made; line scanners of Go programs end at 65,536.
    """

    mount: int
    fsconfig: int
    layers: int
    mountinfo: int


def of_this_kernel(page_size: int | None = None) -> Limits:
    """Return the limits on this machine, or on one with pages of PAGE_SIZE bytes."""
    if page_size is None:
        page_size = os.sysconf("SC_PAGE_SIZE")
    return Limits(mount=page_size - 1, fsconfig=255, layers=500, mountinfo=65_000)


def capacity(prefix: bytes, limits: Limits, id_digits: int = 3) -> int:
    """Return how many lower layers ``PREFIX/ID/fs`` mount(2) takes, at most ``limits.layers``.

    Reckoned as containerd writes them: ``index=off``, upperdir ``PREFIX/ID/fs`` and workdir
    ``PREFIX/ID/work``, each ID of ID_DIGITS digits.
    """
    directory = len(prefix) + 1 + id_digits
    upper = len(b"index=off,workdir=/work,upperdir=/fs,lowerdir=") + 2 * directory
    layer = directory + len(b"/fs:")
    return max(0, min(limits.layers, (limits.mount - upper + 1) // layer))
