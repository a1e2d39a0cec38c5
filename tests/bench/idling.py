"""What the daemon costs while nothing happens to its links."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from ovl_linkd.overlay import mounting
from tests.bench import world
from tests.bench.figures import Figure, sample

SECONDS = 10.0  # well below the interval between two resyncs
MOUNTS = 500
RATE = 100  # mounts a second
RIVAL = 1000  # foreign links a second
MOST_MEMORY = 26.0  # budgets: MiB,
MOST_PROCESSOR = 2.0  # percent, also
MOST_IN_A_FIGHT = 50.0


def measure(effort: float) -> Iterator[Figure]:
    """First alone, then beside mounts, then beside a rival."""
    yield from _at_rest(max(0.5, SECONDS * effort))
    yield from _beside_mounts(max(0.5, SECONDS * effort), max(20, round(MOUNTS * effort)))
    yield from _in_a_fight(max(0.5, SECONDS * effort))


def _at_rest(seconds: float) -> Iterator[Figure]:
    """The standard daemon, and nothing happens."""
    with world.daemon() as (daemon, _):
        daemon.settle()
        wakeups, used = daemon.wakeups(), daemon.cpu()
        time.sleep(seconds)
        wakeups, used = daemon.wakeups() - wakeups, daemon.cpu() - used
        proportional, resident = daemon.memory()
    command = "/proc/PID/status, smaps_rollup; clock_getcpuclockid(3)"
    what = f"idle for {seconds:g} s"
    yield Figure(f"{what}: wake-ups", sample(wakeups), "", budget=0, command=command)
    yield Figure(f"{what}: processor", sample(used * 1e6), "µs", command=command)
    note = f"RSS {resident:.1f} MiB"
    pss = sample(proportional)
    yield Figure(f"{what}: PSS", pss, "MiB", budget=MOST_MEMORY, note=note, command=command)


def _beside_mounts(seconds: float, mounts: int) -> Iterator[Figure]:
    """The standard daemon among many overlay mounts, while others come and go."""
    layers = world.fresh("layers")
    for name in ("lower", "below"):
        (layers / name).mkdir()
    options = f"lowerdir={layers}/lower:{layers}/below".encode()
    points = [layers / str(number) for number in range(mounts)]
    for point in points:
        point.mkdir()
        mounting.mount_overlay("bench", str(point), options)
    try:
        with world.daemon() as (daemon, _):
            daemon.settle()
            used, wakeups, began = daemon.cpu(), daemon.wakeups(), time.monotonic()
            made = _mount_and_unmount(layers, options, seconds)
            spent = time.monotonic() - began
            used, wakeups = daemon.cpu() - used, daemon.wakeups() - wakeups
            proportional, resident = daemon.memory()
    finally:
        for point in points:
            mounting.umount(str(point))
    what = f"among {mounts} overlays, {made / spent:.0f} more a second"
    command = "mount(2) and umount2(2), in turn"
    note = f"{wakeups / spent:.0f} wake-ups a second"
    percent = sample(100 * used / spent)
    budget = MOST_PROCESSOR
    yield Figure(f"{what}: processor", percent, "%", budget=budget, note=note, command=command)
    note = f"RSS {resident:.1f} MiB"
    pss = sample(proportional)
    yield Figure(f"{what}: PSS", pss, "MiB", budget=MOST_MEMORY, note=note, command=command)


def _mount_and_unmount(layers: Path, options: bytes, seconds: float) -> int:
    """Make an overlay and take it off again, RATE times a second; how many were made."""
    point = layers / "busy"
    os.makedirs(point, exist_ok=True)
    made, began = 0, time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        if made < elapsed * RATE:
            mounting.mount_overlay("bench", str(point), options)
            mounting.umount(str(point))
            made += 1
        else:
            time.sleep(made / RATE - elapsed if made > elapsed * RATE else 1 / RATE / 10)
    return made


def _in_a_fight(seconds: float) -> Iterator[Figure]:
    """The daemon and a rival that leads its link elsewhere, RIVAL times a second."""
    path = world.fresh("fought") / "link"
    config = world.configuration("fought", [(str(path), world.STORE)])
    with world.daemon(config) as (daemon, _):
        daemon.settle()
        used, own, began = daemon.cpu(), time.process_time(), time.monotonic()
        made = 0
        while (elapsed := time.monotonic() - began) < seconds:
            if made < elapsed * RIVAL:
                os.symlink("/elsewhere", f"{path}.rival")
                os.rename(f"{path}.rival", path)
                made += 1
            else:
                time.sleep(1 / RIVAL / 10)
        used, own = daemon.cpu() - used, time.process_time() - own
    what = f"link replaced {made / elapsed:,.0f} times a second for {seconds:g} s: processor"
    ours, theirs = (sample(100 * each / elapsed) for each in (used, own))
    command = "symlink(2) and rename(2)"
    yield Figure(what, ours, "%", "the rival itself", theirs, command=command)
    yield Figure("  of one processor", ours, "%", budget=MOST_IN_A_FIGHT, command=command)
