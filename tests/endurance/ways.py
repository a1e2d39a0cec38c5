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
from tests.endurance.crew import Failed, Job

LAYERS = 128
_LIMITS = of_this_kernel()
_PROGRAM = Path(sys.executable).with_name("ovl-linkd")


class Way(NamedTuple):
    """``may_fail``: it goes by the bare link, and finds it missing in the moment of its repair."""

    name: str
    may_fail: bool
    job: Job


def ways(store: Store, link: Path, place: Path) -> list[Way]:
    """Every way in that there is, by the kept LINK, each with a mount point of its own in PLACE."""
    options = store.options(LAYERS)
    short = plan(options, [Prefix("soak", store.root, bytes(link))], _LIMITS).options
    found: list[tuple[str, bool, Callable[[str], None]]] = [
        ("link", True, lambda point: _mount(point, short)),
        ("rewrite", True, lambda point: _by_rewrite(options, point)),
        ("farm", True, lambda point: _by_farm(options, point)),
    ]
    mine = [Way(name, may_fail, _job(mount, place / name)) for name, may_fail, mount in found]
    return [*mine, Way("exec", True, lambda: _below_exec(options, place / "exec"))]


def _job(mount: Callable[[str], None], point: Path) -> Job:
    point.mkdir()

    def once() -> float:
        began = time.perf_counter()
        mount(str(point))
        spent = time.perf_counter() - began
        try:
            if not stores.shows(str(point), LAYERS):
                raise RuntimeError("other layers were mounted than were told")
        finally:
            mounting.umount(str(point))
        return spent

    return once


def _mount(point: str, options: bytes) -> None:
    try:
        mounting.mount_overlay("soak", point, options)
    except OSError as error:
        raise Failed(f"mount(2): {error.strerror}") from None


def _by_rewrite(options: bytes, point: str) -> None:
    command = [str(_PROGRAM), "rewrite", os.fsdecode(options)]
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


def _below_exec(options: bytes, point: Path) -> float:
    """A program that lives for some mounts, which looks at them itself; the seconds of one."""
    point.mkdir(exist_ok=True)
    below = [sys.executable, "-m", "tests.endurance.below", "20", str(LAYERS), str(point)]
    command = [str(_PROGRAM), "exec", "--", *below]
    done = subprocess.run(command, input=options, capture_output=True, check=False)
    if done.returncode:
        raise Failed(os.fsdecode(done.stderr).strip().rpartition("\n")[2] or f"{done.returncode}")
    return statistics.median(float(line) for line in done.stdout.split())
