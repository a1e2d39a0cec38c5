"""What `ovl-linkd exec` costs a program: calls that don't concern it, and those that it mends."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.overlay.shorten import plan
from tests.bench import ways, world
from tests.bench.figures import Figure, rounds, sample
from tests.bench.stores import STORES

LAYERS = 128
CALLS = 20_000
TURNS = 10
MANY = 1_000_000  # in one go
MOST_OTHER = 40.0  # budgets: µs more for a call that doesn't concern us,
MOST_CAUGHT = 1.0  # ms more for one that is mended

_PROGRAM = Path(sys.executable).with_name("ovl-linkd")


def measure(effort: float) -> Iterator[Figure]:
    """The same calls without exec and below it, in turn."""
    world.compiled("mounts")
    with world.daemon():
        yield from _others(rounds(CALLS, effort), rounds(TURNS, effort))
        yield from _others(rounds(MANY, effort), 1)
    yield from _caught(rounds(10, effort), rounds(TURNS, effort))


def _others(count: int, turns: int) -> Iterator[Figure]:
    below: list[float] = []
    bare: list[float] = []
    for _ in range(turns):
        for under, times in ((True, below), (False, bare)):
            times.append(_run(under, "other", str(count))[0] / count / 1000)
    command = f"mounts other {count:,}: mount(2) of a file system that doesn't exist"
    what = f"each of {count:,} mount(2)s that are no overlay's, below exec"
    under_exec = f"ovl-linkd exec -- {command}"
    yield Figure(what, sample(below), "µs", "without", sample(bare), command=under_exec)
    more = [mine - without for mine, without in zip(below, bare, strict=True)]
    yield Figure("  more than without", sample(more), "µs", budget=MOST_OTHER, command=command)


def _caught(count: int, turns: int) -> Iterator[Figure]:
    """Options that are too long, below exec; those that exec makes of them, without it."""
    store = STORES[1]
    os.makedirs(ways.POINT, exist_ok=True)
    long = store.options(LAYERS)
    short = plan(long, [store.link], of_this_kernel()).options
    words = ("overlay", str(count), ways.POINT)
    caught: list[float] = []
    plain: list[float] = []
    with store.made(), world.daemon():
        for _ in range(turns):
            caught += [each / 1e6 for each in _run(True, *words, given=long)]
            plain += [each / 1e6 for each in _run(False, *words, given=short)]
    command = f"mounts overlay {count} {ways.POINT}"
    what = f"mount(2) of {LAYERS} layers by long names, caught"
    mine, bare = sample(caught), sample(plain)
    beside = "by short names, without"
    yield Figure(what, mine, "ms", beside, bare, command=f"ovl-linkd exec -- {command}")
    more = sample(mine.p50 - bare.p50)
    yield Figure("  more than that", more, "ms", budget=MOST_CAUGHT, command=command)


def _run(below: bool, *words: str, given: bytes = b"") -> list[int]:
    """What the program says, run below exec or not."""
    command = [str(world.PLACE / "mounts"), *words]
    if below:
        command = [str(_PROGRAM), "exec", "--", *command]
    environment = world.environment()
    done = subprocess.run(command, input=given, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {os.fsdecode(done.stderr)}")
    return [int(line) for line in done.stdout.split()]
