"""Mounts by every way in, without a pause, while cleaners take the kept link away all the time.

What goes by the bare link may fail in the moments between removal and repair, no more often than
there were any, and the report says how often it did; all else must never fail. The daemon must be
at the end as it was at the start.
Exit codes: 0 all of it is so, 1 something isn't, 2 it can't be tried here.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.bench import world
from tests.bench.stores import STORES
from tests.bench.systems import systems
from tests.endurance.cleaners import cleaners
from tests.endurance.crew import working
from tests.endurance.report import cleaned, judged, moments
from tests.endurance.ways import LAYERS, PROGRAM, WAYS, ways

LINK = Path("/run/short/ctrdl")
FARM = Path("/run/farm")
CONFIG = Path("/run/ovl-linkd/config.yaml")
GROWTH = 1.5  # MiB that an allocator may keep for itself


class Sizes(NamedTuple):
    """What the daemon has: its proportional size in MiB, and descriptors."""

    memory: float
    descriptors: int


def main() -> int:
    """Soak for as long as was asked for, and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long (default: 600)")
    options = parser.parse_args()
    try:
        world.enter()
    except OSError as error:
        print(f"soak: a mount namespace is needed: {error.strerror}; run as root", file=sys.stderr)
        return 2
    wrong = list(_soak(options.seconds))
    for each in wrong:
        print(f"soak: WRONG: {each}")
    print(f"soak: {len(wrong)} wrong" if wrong else "soak: all well", flush=True)
    return int(bool(wrong))


def _soak(seconds: float) -> Iterator[str]:
    """What was not as it must be."""
    store = STORES[1]
    LINK.parent.mkdir()
    place = world.fresh("soak")
    _configure(os.fsdecode(store.root))
    with store.made(WAYS), systems() as (system, *_), world.daemon() as (daemon, _):
        subprocess.run(
            [PROGRAM, "guard", "--config", CONFIG], stdout=subprocess.DEVNULL, check=True
        )
        mounts = ways(store, LINK, place, system)
        removing = cleaners(LINK, FARM, place)
        jobs = {way.name: way.job for way in mounts} | removing
        print(f"soak: {LAYERS} layers by {', '.join(way.name for way in mounts)}", flush=True)
        with working(jobs):  # what is imported, compiled and cached by the first of them
            time.sleep(min(seconds / 4, 20))
        before = _sizes(daemon)
        began = time.monotonic()
        # Of a few tries in a few seconds all may have met a moment without the link.
        with working(jobs, until_each_worked=True) as records:
            time.sleep(seconds)
        seconds = time.monotonic() - began
        after = _sizes(daemon)
    may_fail = moments({name: records[name] for name in removing if "farm" not in name})
    for way in mounts:
        yield from judged(way.name, may_fail if way.may_fail else 0, records[way.name])
    print(f"moments without the link: {may_fail:,} at most")
    yield from cleaned({name: records[name] for name in removing}, seconds)
    print(f"daemon: {before} at the start, {after} at the end")
    if after.descriptors != before.descriptors:
        yield "the daemon has other descriptors than at the start"
    if after.memory > before.memory + GROWTH:
        yield f"the daemon has grown by {after.memory - before.memory:.1f} MiB"
    if left := [each for each in os.listdir(LINK.parent) if each != LINK.name]:
        yield f"left beside the link: {', '.join(left)}"
    if not LINK.is_symlink():
        yield "the link is not there"


def _configure(target: str) -> None:
    CONFIG.parent.mkdir()
    link = f"links:\n  ctrdl:\n    path: {LINK}\n    target: {target}\n"
    CONFIG.write_text(f"{link}farm:\n  path: {FARM}\n  guard: append-only\n")


def _sizes(daemon: world.Process) -> Sizes:
    daemon.settle()
    memory, _ = daemon.memory()
    return Sizes(round(memory, 1), len(os.listdir(f"/proc/{daemon.pid}/fd")))


if __name__ == "__main__":
    sys.exit(main())
