"""From one link to ten thousand: what a start, a storm, memory and other files' events come to."""

import os
from collections.abc import Iterator
from pathlib import Path

from tests.bench import world
from tests.bench.figures import Figure, rounds, sample
from tests.bench.restoring import LOOP

COUNTS = (1, 10, 100, 1_000, 10_000)
RATIO = 2.5  # budget for the most links
START, STORM, MEMORY, EVENT = "start", "storm", "memory", "event"  # the lines of the picture


def measure(effort: float) -> Iterator[Figure]:
    """Every line of the picture, one count of links after the other."""
    for count in COUNTS if effort == 1 else COUNTS[:2]:
        yield from _start(count, effort)
        yield from _kept(count, effort)


def _configured(count: int) -> tuple[Path, str]:
    ours = world.fresh("ours")
    links = [(f"{ours}/{number}", world.STORE) for number in range(count)]
    return ours, world.configuration("links", links)


def _start(count: int, effort: float) -> Iterator[Figure]:
    """The daemon's start where none of the links is there yet."""
    ready = []
    for _ in range(rounds(5 if count < COUNTS[-1] else 3, effort)):
        _, config = _configured(count)
        with world.daemon(config) as (_, took):
            ready.append(took * 1000)
    what = f"{_links(count)}: start to READY, all missing"
    command = "ovl-linkd run --config links.yaml"
    yield Figure(what, sample(ready), "ms", command=command, series=START, at=count)


def _kept(count: int, effort: float) -> Iterator[Figure]:
    """All removed one right after the other, in turn from the daemon and the C loop."""
    keeper, remover = world.processors() or (None, None)
    (ours, config), theirs = _configured(count), world.fresh("theirs")
    for number in range(count):
        (theirs / str(number)).symlink_to(world.STORE)
    spent: dict[Path, list[float]] = {ours: [], theirs: []}
    with (
        world.daemon(config, keeper) as (daemon, _),
        world.c_loop(theirs, world.STORE, keeper) as loop,
    ):
        memory = daemon.memory()[0]
        for _ in range(rounds(15, effort)):
            for directory in (ours, theirs):
                daemon.settle(0.02)
                loop.settle(0.02)
                ((first, _),) = world.removed(remover, "all", count, directory)
                spent[directory].append(first / 1e6)
        event = [_unrelated(daemon, ours, rounds(1_000, effort)) for _ in range(3)]
    budget = RATIO if count == COUNTS[-1] else None
    what = f"{_links(count)}: from the first removed to all back"
    command = f"remover all {count} {ours}"
    a, b = sample(spent[ours]), sample(spent[theirs])
    yield Figure(what, a, "ms", LOOP, b, budget, command=command, series=STORM, at=count)
    what = f"{_links(count)}: PSS after the start"
    command = "/proc/PID/smaps_rollup"
    yield Figure(what, sample(memory), "MiB", command=command, series=MEMORY, at=count)
    what = f"{_links(count)}: processor time for an unrelated event beside them"
    command = "creat(2), close(2), unlink(2) of another name; clock_getcpuclockid(3)"
    yield Figure(what, sample(event), "µs", command=command, series=EVENT, at=count)


def _unrelated(daemon: world.Process, directory: Path, count: int) -> float:
    """Microseconds that the daemon spends on each of the two events that a passing file makes."""
    daemon.settle(0.02)
    before = daemon.cpu()
    for number in range(count):
        name = f"{directory}/other{number}"
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
        os.unlink(name)
    daemon.settle(0.02)
    return (daemon.cpu() - before) / (2 * count) * 1e6


def _links(count: int) -> str:
    return "1 link" if count == 1 else f"{count:,} links"
