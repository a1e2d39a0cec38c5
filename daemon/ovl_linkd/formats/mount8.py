"""The mount(8) of this machine: how it hands options to the kernel."""

import os

from ovl_linkd.formats.judging import BY_VALUE, HELPER, MOUNT2

#: where mount(8) looks for the helper of an overlay
HELPERS = ("/sbin/mount.overlay", "/usr/sbin/mount.overlay")
_MARK = b"ovl-linkd"


def way() -> str:
    """Return how options go on from here: HELPER, BY_VALUE or MOUNT2."""
    if has_helper():
        return HELPER
    return BY_VALUE if takes_by_value() else MOUNT2


def has_helper(root: str = "/") -> bool:
    """Whether the mount.overlay that mount(8) finds below ROOT is ours: another may take less."""
    for path in HELPERS:
        try:
            with open(os.path.join(root, path[1:]), "rb") as file:
                return _MARK in file.read(4096)
        except OSError:
            continue
    return False


def takes_by_value() -> bool:
    """Whether this machine's mount(8) hands options over by fsconfig(2), 255 bytes a value.

    Asked of mount(8) itself: libmount lists ``fd-based-mount`` among its features where it has the
    new mount API built in (libmount/src/version.c). Without a mount(8) the answer is no.
    """
    import subprocess

    try:
        answer = subprocess.run(
            ["mount", "--version"], capture_output=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"fd-based-mount" in answer
