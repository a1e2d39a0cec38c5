"""How many layers mount, and are all there, by the length of their names and the way they go."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ovl_linkd.overlay import mounting
from tests.bench import stores, ways, world
from tests.bench.figures import Figure, sample
from tests.bench.stores import MOST, STORES, Store
from tests.bench.ways import CALLS, Way
from tests.userland import DEBIAN_13, TOP, Userland


def measure(effort: float) -> Iterator[Figure]:
    """Each store by each way: the most layers that are mounted rightly, found by halving."""
    os.makedirs(ways.POINT, exist_ok=True)
    with mount8s() as others:
        for store in STORES if effort == 1 else STORES[1:2]:
            with store.made(), store.named():
                for way in [*CALLS, *others]:
                    most = sample(_most(store, way))
                    what = f"{store.name} ({len(store.layer(0))} bytes), {way.name}"
                    yield Figure(what, most, "", command=way.command, series=way.name)


@contextlib.contextmanager
def mount8s() -> Iterator[list[Way]]:
    """mount(8) of this machine's system and of Debian 13, without a helper and with one."""
    found = []
    with contextlib.ExitStack() as stack:
        for system, name in ((Path("/"), "here"), (DEBIAN_13, "13")):
            if system.exists():
                inside = stack.enter_context(userland(system, name))
                words = inside.run("mount", "--version").stdout.split()
                version = next(word for word in words if word[0].isdigit())
                found.append(ways.by_mount8(inside, f"mount(8) {version}"))
                helped = stack.enter_context(with_helper(system, f"{name}-helped"))
                found.append(ways.by_mount8(helped, f"mount(8) {version}, mount.overlay"))
        yield found


@contextlib.contextmanager
def with_helper(lower: Path, name: str) -> Iterator[Userland]:
    """The system below LOWER with mount.overlay, as its package puts it there."""
    with userland(lower, name) as system:
        library = system.path("/usr/lib/ovl-linkd/ovl_linkd")
        ignored = shutil.ignore_patterns("__pycache__", "data")
        shutil.copytree(TOP / "daemon/ovl_linkd", library, ignore=ignored)
        helper = system.path("/usr/sbin/mount.overlay")
        shutil.copy(TOP / "daemon/mount-helper/mount.overlay", helper)
        helper.chmod(0o755)
        yield system


@contextlib.contextmanager
def userland(lower: Path, name: str) -> Iterator[Userland]:
    """The system below LOWER, with the layers of this world in its /var/lib."""
    before = _mount_points()
    userland = Userland(lower, world.fresh(f"userland-{name}"))
    store = userland.path("/var/lib")
    mounting.mount("/var/lib", str(store), "", mounting.MS_BIND)
    try:
        yield userland
    finally:
        for point in reversed(_mount_points()[len(before) :]):
            mounting.umount(point, lazy=True)


def _mount_points() -> list[bytes]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_bytes().splitlines()]


def _most(store: Store, way: Way) -> int:
    """The most layers of STORE that WAY mounts."""
    right, wrong = 0, MOST + 1
    while wrong - right > 1:
        count = (right + wrong) // 2
        if _mounts(store, way, count):
            right = count
        else:
            wrong = count
    return right


def _mounts(store: Store, way: Way, count: int) -> bool:
    try:
        way.prepare(store, count)()
    except (ways.CantMount, OSError):
        return False
    try:
        return stores.shows(str(way.seen_at), count)
    except OSError:  # it mounted, but not what was meant
        return False
    finally:
        mounting.umount(str(way.seen_at))
