"""How long a mount takes, by the way it goes and the number of its layers."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from ovl_linkd.overlay import mounting
from tests.bench import ways
from tests.bench.figures import Figure, rounds, sample
from tests.bench.stores import STORES
from tests.bench.ways import CALLS, DESCRIPTORS

COUNTS = (4, 50, 128, 200, 500)
ROUNDS = 60


def measure(effort: float) -> Iterator[Figure]:
    """Containerd's names of three digits, each number of layers by each way in turn."""
    store = STORES[1]
    os.makedirs(ways.POINT, exist_ok=True)
    with store.made(), store.named():
        for count in COUNTS:
            mounts = {}
            for way in [*CALLS, DESCRIPTORS]:
                with contextlib.suppress(ways.CantMount):
                    mounts[way] = way.prepare(store, count)
            for way, spent in in_turn(mounts, rounds(ROUNDS, effort)).items():
                what, spread = f"{count} layers, {way.name}", sample(spent)
                command, series = way.command, way.name
                yield Figure(what, spread, "ms", command=command, series=series, at=count)


def in_turn(mounts: dict[ways.Way, Callable[[], None]], count: int) -> dict[ways.Way, list[float]]:
    """The milliseconds that each of MOUNTS takes, COUNT times; each is taken off again."""
    times: dict[ways.Way, list[float]] = {way: [] for way in mounts}
    for round_ in range(-2, count):  # the first ones find nothing in the kernel's caches
        for way, mount in mounts.items():
            began = time.perf_counter()
            mount()
            spent = time.perf_counter() - began
            mounting.umount(str(way.seen_at))
            if round_ >= 0:
                times[way].append(spent * 1000)
    return times
