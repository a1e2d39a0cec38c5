"""unlink(2) to visible again, by the real daemon and by the least that C can do."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench import world
from tests.bench.figures import Figure, median, percentile

# Microseconds before each removal. After the short pause both keepers sleep, but what they need is
# still in the processor's caches; after the long one it isn't, nor may the processor be awake.
PAUSE = 1_000
REST = 20_000
MANY = 10_000
RATIO_OF_ONE = 2.0  # budgets
RATIO_OF_MANY = 2.5
LOOP = "C loop"


def one_link(rounds: int = 3_000, rested_rounds: int = 150) -> Iterator[Figure]:
    """One link removed again and again, in turn from the daemon and from the C loop."""
    keeper, remover = world.processors() or (None, None)
    ours, theirs = world.fresh("ours"), world.fresh("theirs")
    (theirs / "link").symlink_to(world.STORE)
    config = world.configuration("one", [(f"{ours}/link", world.STORE)])
    with world.daemon(config, keeper), world.c_loop(theirs, world.STORE, keeper):
        lines = _removed(remover, "one", rounds, PAUSE, ours, theirs)
        rested = _removed(remover, "one", rested_rounds, REST, ours, theirs)
    a, b = _microseconds(lines)
    what = "unlink to restored"
    yield Figure(f"{what}, p50", median(a), "µs", LOOP, median(b), RATIO_OF_ONE)
    yield Figure("  p99", percentile(a, 99), "µs", LOOP, percentile(b, 99))
    a, b = _microseconds(rested)
    yield Figure(f"  after {REST // 1000} ms of rest, p50", median(a), "µs", LOOP, median(b))


def _microseconds(lines: list[tuple[int, ...]]) -> tuple[list[float], list[float]]:
    """Ours and theirs, of lines of nanoseconds."""
    return [ours / 1000 for ours, _ in lines], [theirs / 1000 for _, theirs in lines]


def many_links(rounds: int = 15) -> Iterator[Figure]:
    """10,000 links removed one right after the other, in turn from the daemon and the C loop."""
    keeper, remover = world.processors() or (None, None)
    ours, theirs = world.fresh("ours"), world.fresh("theirs")
    for number in range(MANY):
        (theirs / str(number)).symlink_to(world.STORE)
    links = [(f"{ours}/{number}", world.STORE) for number in range(MANY)]
    config = world.configuration("many", links)
    measured: dict[Path, list[tuple[float, float]]] = {ours: [], theirs: []}
    with (
        world.daemon(config, keeper) as (daemon, _),
        world.c_loop(theirs, world.STORE, keeper) as loop,
    ):
        for _ in range(rounds):
            for directory in (ours, theirs):
                daemon.settle()
                loop.settle()
                ((first, last),) = _removed(remover, "all", MANY, directory)
                measured[directory].append((first / 1e6, last / 1e6))
    a, b = ([first for first, _ in measured[each]] for each in (ours, theirs))
    what = f"{MANY:,} removed: from the first to all back"
    yield Figure(what, median(a), "ms", LOOP, median(b), RATIO_OF_MANY)
    a, b = ([last for _, last in measured[each]] for each in (ours, theirs))
    yield Figure("  from the last to all back", median(a), "ms", LOOP, median(b))


def unrelated_events(count: int = 5_000) -> Iterator[Figure]:
    """What the daemon spends on files that come and go beside its link."""
    keeper, _ = world.processors() or (None, None)
    ours = world.fresh("ours")
    config = world.configuration("one", [(f"{ours}/link", world.STORE)])
    with world.daemon(config, keeper) as (daemon, _):
        daemon.settle()
        before = daemon.cpu()
        for number in range(count):
            descriptor = os.open(f"{ours}/{number}", os.O_CREAT | os.O_WRONLY)
            os.close(descriptor)
            os.unlink(f"{ours}/{number}")
        daemon.settle()
        used = daemon.cpu() - before
    yield Figure("an unrelated event beside the link", used / (2 * count) * 1e6, "µs")


def _removed(on: int | None, *arguments: object) -> list[tuple[int, ...]]:
    """What the remover printed."""
    command = [str(world.PLACE / "remover"), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        world.pin(child.pid, on)
        said, _ = child.communicate()
    if child.returncode:
        raise RuntimeError(f"the remover failed: {child.returncode}")
    return [tuple(map(int, line.split())) for line in said.splitlines()]
