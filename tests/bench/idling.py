"""What the daemon costs while nothing happens to its links."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from ovl_linkd.overlay import mounting
from tests.bench import world
from tests.bench.figures import Figure

SECONDS = 10.0  # well below the interval between two resyncs
MOUNTS = 500
RATE = 100  # mounts a second
MOST_MEMORY = 26.0  # budgets: MiB,
MOST_PROCESSOR = 2.0  # percent


def at_rest() -> Iterator[Figure]:
    """The standard daemon, and nothing happens."""
    with world.daemon() as (daemon, _):
        daemon.settle()
        wakeups, used = daemon.wakeups(), daemon.cpu()
        time.sleep(SECONDS)
        wakeups, used = daemon.wakeups() - wakeups, daemon.cpu() - used
        proportional, resident = daemon.memory()
    yield Figure(f"idle: wake-ups in {SECONDS:g} s", wakeups, "", budget=0)
    yield Figure("idle: processor", used * 1e6, "µs")
    note = f"RSS {resident:.1f} MiB"
    yield Figure("idle: PSS", proportional, "MiB", budget=MOST_MEMORY, note=note)


def beside_mounts() -> Iterator[Figure]:
    """The standard daemon among 500 overlay mounts, while others come and go."""
    layers = world.fresh("layers")
    for name in ("lower", "below"):
        (layers / name).mkdir()
    options = f"lowerdir={layers}/lower:{layers}/below".encode()
    points = [layers / str(number) for number in range(MOUNTS)]
    for point in points:
        point.mkdir()
        mounting.mount_overlay("bench", str(point), options)
    try:
        with world.daemon() as (daemon, _):
            daemon.settle()
            used, wakeups, began = daemon.cpu(), daemon.wakeups(), time.monotonic()
            made = _mount_and_unmount(layers, options)
            spent = time.monotonic() - began
            used, wakeups = daemon.cpu() - used, daemon.wakeups() - wakeups
            proportional, resident = daemon.memory()
    finally:
        for point in points:
            mounting.umount(str(point))
    what = f"{MOUNTS} overlays, {made / spent:.0f} mounts/s"
    note = f"{wakeups / spent:.0f} wake-ups a second"
    percent = 100 * used / spent
    yield Figure(f"{what}: processor", percent, "%", budget=MOST_PROCESSOR, note=note)
    note = f"RSS {resident:.1f} MiB"
    yield Figure(f"{what}: PSS", proportional, "MiB", budget=MOST_MEMORY, note=note)


def _mount_and_unmount(layers: Path, options: bytes) -> int:
    """Make an overlay and take it off again, RATE times a second; how many were made."""
    point = layers / "busy"
    os.makedirs(point, exist_ok=True)
    made, began = 0, time.monotonic()
    while (elapsed := time.monotonic() - began) < SECONDS:
        if made < elapsed * RATE:
            mounting.mount_overlay("bench", str(point), options)
            mounting.umount(str(point))
            made += 1
        else:
            time.sleep(made / RATE - elapsed if made > elapsed * RATE else 1 / RATE / 10)
    return made
