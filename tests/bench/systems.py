"""Two Debians whose mount(8)s differ, with our helper in both.

`mount -i` is how mount(8) goes without it.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ovl_linkd.overlay import mounting
from tests.bench import world
from tests.helper.world import FRONT
from tests.userland import DEBIAN_12, DEBIAN_13, TOP, Userland


class System(NamedTuple):
    """``version``: of its mount(8)."""

    version: str
    userland: Userland


@contextlib.contextmanager
def systems() -> Iterator[list[System]]:
    """Both, with the layers of this world in their /var/lib."""
    # No place is used again: what is still mounted in one must never be cleared away.
    library = Path(tempfile.mkdtemp(dir=world.PLACE))
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(TOP / "daemon/ovl_linkd", library / "ovl_linkd", ignore=ignored)
    found = []
    with contextlib.ExitStack() as stack:
        for lower in (DEBIAN_12, DEBIAN_13):
            userland = stack.enter_context(_userland(lower, library))
            words = userland.run("mount", "--version").stdout.split()
            version = next(word for word in words if word[0].isdigit())
            found.append(System(version, userland))
        yield found


@contextlib.contextmanager
def _userland(lower: Path, library: Path) -> Iterator[Userland]:
    before = _mount_points()
    userland = Userland(lower, Path(tempfile.mkdtemp(dir=world.PLACE)))
    mounting.mount("/var/lib", str(userland.path("/var/lib")), "", mounting.MS_BIND)
    # As the package would have laid it.
    code = userland.path("/usr/lib/ovl-linkd")
    code.mkdir(exist_ok=True)
    mounting.mount(str(library), str(code), "", mounting.MS_BIND)
    helper = userland.path("/usr/sbin/mount.overlay")
    shutil.copy(FRONT, helper)
    helper.chmod(0o755)
    try:
        yield userland
    finally:
        for point in reversed(_mount_points()[len(before) :]):
            mounting.umount(point, lazy=True)


def _mount_points() -> list[bytes]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_bytes().splitlines()]
