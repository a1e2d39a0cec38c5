"""How many layers mount, and are all there, by the length of their names and the way they go."""

import os
from collections.abc import Iterator

from ovl_linkd.overlay import mounting
from tests.bench import stores, ways
from tests.bench.figures import Figure, sample
from tests.bench.stores import MOST, STORES, Store
from tests.bench.systems import systems
from tests.bench.ways import CALLS, Way


def measure(effort: float) -> Iterator[Figure]:
    """Each store by each way: the most layers that are mounted rightly, found by halving."""
    os.makedirs(ways.POINT, exist_ok=True)
    with systems() as found:
        others = [way for system in found for way in ways.by_mount8(system)]
        for store in STORES if effort == 1 else STORES[1:2]:
            with store.made(), store.named():
                for way in [*CALLS, *others]:
                    most = sample(_most(store, way))
                    what = f"{store.name} ({len(store.layer(0))} bytes), {way.name}"
                    yield Figure(what, most, "", command=way.command, series=way.name)


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
