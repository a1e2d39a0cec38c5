"""What mount.overlay costs a mount by mount(8), and how far that is from the bare system calls."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ovl_linkd.overlay import climbing, mounting
from ovl_linkd.overlay.options import parse
from tests.bench import ways
from tests.bench.figures import Figure, rounds, sample
from tests.bench.stores import STORES, Store
from tests.bench.systems import systems
from tests.userland import Userland

ROUNDS = 60
BUDGET = 2.5  # starts of a Python that does nothing, more than mount(8) takes by itself
BARE = "/usr/bin/python3 -I -c pass"


def measure(effort: float) -> Iterator[Figure]:
    """The same mount with the helper and without it in turn, and mounts that need it."""
    store, count = STORES[1], rounds(ROUNDS, effort)
    os.makedirs(ways.POINT, exist_ok=True)
    with store.made(), store.named(), systems() as ((_, system), *_):
        for layers, budget in ((4, BUDGET), (2, None)):
            helped, alone, bare = in_turn(system, store, layers, count)
            more = [ours - theirs for ours, theirs in zip(helped, alone, strict=True)]
            what = f"more for {layers} layers, {len(options(store, layers))} bytes"
            command = f"{_said('')}; {_said('-i ')}"
            yield Figure(what, sample(more), "ms", BARE, sample(bare), budget, command=command)
        for layers in (128, 500):
            ours = _timed(_by_mount8(system, store, layers), system.path(ways.POINT), count)
            within = _timed(_by_climbing(store, layers), Path(ways.POINT), count)
            way, theirs = _quickest(store, layers, count)
            beside, theirs_ = f"system calls, {way}", sample(theirs)
            what, command = f"{layers} layers", _said("")
            yield Figure(what, sample(ours), "ms", beside, theirs_, command=command)
            what, command = f"{layers} layers, without start", "ovl_linkd.overlay.climbing.climb()"
            yield Figure(what, sample(within), "ms", beside, theirs_, command=command)


def options(store: Store, layers: int) -> bytes:
    """So many layers, read-only: short enough for any mount(8), if there are two."""
    return b"lowerdir=" + b":".join(store.layer(number) for number in range(layers))


def in_turn(system: Userland, store: Store, layers: int, count: int) -> list[list[float]]:
    """The milliseconds of a mount with the helper, of the same without it, of a bare Python."""
    mounts = [_by_mount8(system, store, layers, *more) for more in ((), ("-i",))]
    times: list[list[float]] = [[], [], []]
    for round_ in range(-3, count):
        spent = [_timed(mount, system.path(ways.POINT), 1)[0] for mount in mounts]
        began = time.perf_counter()
        subprocess.run(["chroot", system.root, *BARE.split()], check=True)
        spent.append((time.perf_counter() - began) * 1000)
        if round_ >= 0:
            for values, value in zip(times, spent, strict=True):
                values.append(value)
    return times


def _by_mount8(system: Userland, store: Store, layers: int, *more: str) -> Callable[[], None]:
    # -i with mount(2), which takes four layers of this length in any version of mount(8).
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LIBMOUNT_FORCE_MOUNT2": "always"}
    words = [*more, "-t", "overlay", "-o", os.fsdecode(options(store, layers))]
    command = ["chroot", str(system.root), "mount", *words, "overlay", ways.POINT]
    program = shutil.which("chroot") or "/usr/sbin/chroot"

    def mount() -> None:
        child = os.posix_spawn(program, command, environment)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            raise ways.CantMount

    return mount


def _by_climbing(store: Store, layers: int) -> Callable[[], None]:
    """What the helper does once it is there: the first rung that this kernel takes."""
    given, point = options(store, layers), os.fsencode(ways.POINT)

    def mount() -> None:
        climbing.climb(b"bench", point, parse(given), 0, ways.LIMITS)

    return mount


def _timed(mount: Callable[[], None], point: Path, count: int) -> list[float]:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        mount()
        times.append((time.perf_counter() - began) * 1000)
        mounting.umount(str(point))
    return times


def _quickest(store: Store, layers: int, count: int) -> tuple[str, list[float]]:
    """The way by system calls that takes the least time, and its milliseconds."""
    found = {}
    for way in ways.CALLS:
        try:
            mount = way.prepare(store, layers)
        except ways.CantMount:
            continue
        found[way.name] = _timed(mount, Path(ways.POINT), count)
    return min(found.items(), key=lambda item: sample(item[1]).p50)


def _said(more: str) -> str:
    return f"mount {more}-t overlay -o OPTIONS overlay TARGET"
