"""The ways in: what mounts the same layers again and again, and whether it may ever fail."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ovl_linkd import published
from ovl_linkd.errors import UserError
from ovl_linkd.leasing import lease
from ovl_linkd.overlay import mounting
from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.overlay.shorten import Prefix, layers_to_lease, plan
from tests.bench import stores, world
from tests.bench.stores import Store
from tests.bench.systems import System
from tests.endurance import bundle
from tests.endurance.crew import Failed, Job

LAYERS = 128
WAYS = 6
BELOW = 20  # mounts of each program below exec
_LIMITS = of_this_kernel()
PROGRAM = Path(sys.executable).with_name("ovl-linkd")


class Way(NamedTuple):
    """``may_fail``: it goes by the bare link, and finds it missing in the moment of its repair."""

    name: str
    may_fail: bool
    job: Job


def ways(store: Store, link: Path, place: Path, system: System) -> list[Way]:
    """Every way in that there is, by the kept LINK, each with a mount point of its own in PLACE.

    SYSTEM has the mount(8) that finds mount.overlay.
    """
    # Each with directories of its own: overlays that share them disturb one another.
    given = [store.options(LAYERS, own) for own in range(WAYS)]
    short = plan(given[0], [Prefix("soak", store.root, bytes(link))], _LIMITS).options
    bundle.make(place / "bundle", given[1])
    return [
        Way("link", True, _job(lambda point: _mount(point, short), place / "link")),
        Way("ovl-linkd-runc", True, _timed(lambda: bundle.run(place / "bundle", LAYERS))),
        Way("rewrite", True, _job(lambda point: _by_rewrite(given[2], point), place / "rewrite")),
        Way("guarded farm", False, _job(lambda point: _by_farm(given[3], point), place / "farm")),
        Way("mount.overlay", False, _by_helper(system, given[4], place / "helper")),
        Way(f"exec, {BELOW} mounts each", False, lambda: _below_exec(given[5], place / "exec")),
    ]


def _timed(mount: Callable[[], None]) -> Job:
    def once() -> float:
        began = time.perf_counter()
        mount()
        return time.perf_counter() - began

    return once


def _job(mount: Callable[[str], None], point: Path, seen_at: Path | None = None) -> Job:
    """Mount at POINT, look at what is there to be seen from outside SEEN_AT, unmount."""
    point.mkdir()
    seen_at = seen_at or point
    timed = _timed(lambda: mount(str(point)))

    def once() -> float:
        spent = timed()
        try:
            if not stores.shows(str(seen_at), LAYERS):
                raise RuntimeError("other layers were mounted than were told")
        finally:
            mounting.umount(str(seen_at))
        return spent

    return once


def _mount(point: str, options: bytes) -> None:
    try:
        mounting.mount_overlay("soak", point, options)
    except OSError as error:
        raise Failed(f"mount(2): {error.strerror}") from None


def _by_rewrite(options: bytes, point: str) -> None:
    command = [str(PROGRAM), "rewrite", os.fsdecode(options)]
    done = subprocess.run(command, env=world.environment(), capture_output=True, check=False)
    if done.returncode:
        said = os.fsdecode(done.stderr).splitlines()
        raise Failed(said[0] if said else f"rewrite ended with {done.returncode}")
    _mount(point, done.stdout.rstrip(b"\n"))


def _by_farm(options: bytes, point: str) -> None:
    try:
        leased = lease(layers_to_lease(options, ()), published.known(None))
    except UserError as error:
        raise Failed(error.what) from None
    _mount(point, plan(options, (), _LIMITS, farm=leased).options)


def _by_helper(system: System, options: bytes, point: Path) -> Job:
    words = ("mount", "-t", "overlay", "-o", os.fsdecode(options), "overlay")

    def mount(point: str) -> None:
        done = system.userland.run(*words, point, code=None)
        if done.returncode:
            raise Failed(done.stderr.strip().partition("\n")[0])

    return _job(mount, point, system.userland.path(point))


def _below_exec(options: bytes, point: Path) -> float:
    """A program that lives for some mounts, which looks at them itself; the seconds of one."""
    point.mkdir(exist_ok=True)
    below = [sys.executable, "-m", "tests.endurance.below", str(BELOW), str(LAYERS), str(point)]
    command = [str(PROGRAM), "exec", "--", *below]
    done = subprocess.run(command, input=options, capture_output=True, check=False)
    if done.returncode:
        raise Failed(os.fsdecode(done.stderr).strip().rpartition("\n")[2] or f"{done.returncode}")
    return statistics.median(float(line) for line in done.stdout.split())
