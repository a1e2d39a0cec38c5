"""unlink(2) to visible again, by the real daemon and by the least that C can do."""

from collections.abc import Iterator
from contextlib import ExitStack

from tests.bench import world
from tests.bench.figures import Figure, rounds, sample
from tests.flooding import flooded

# Microseconds before each removal. After the short pause both keepers sleep, but what they need is
# still in the processor's caches; after the long one it isn't, nor may the processor be awake.
PAUSE = 1_000
REST = 20_000
RATIO = 2.0  # budget
LOOP = "C loop"


def measure(effort: float) -> Iterator[Figure]:
    """One link removed again and again, in turn from the daemon and from the C loop."""
    keeper, remover = world.processors() or (None, None)
    ours, theirs = world.fresh("ours"), world.fresh("theirs")
    (theirs / "link").symlink_to(world.STORE)
    config = world.configuration("one", [(f"{ours}/link", world.STORE)])
    with world.daemon(config, keeper), world.c_loop(theirs, world.STORE, keeper):
        for pause, most, when, budget in (
            (PAUSE, 3_000, "", RATIO),
            (REST, 300, f", after {REST // 1000} ms of rest", None),
        ):
            words = ("one", rounds(most, effort), pause, ours, theirs)
            a, b = microseconds(world.removed(remover, *words))
            yield Figure(
                f"unlink to restored{when}",
                sample(a),
                "µs",
                LOOP,
                sample(b),
                budget,
                command="remover " + " ".join(map(str, words)),
            )
    yield from during_a_flood(effort)


def during_a_flood(effort: float) -> Iterator[Figure]:
    """The same with a stranger at the control socket who does what he can, and without, in turn.

    He has the processor of who measures, and both who measures and the daemon go before whoever
    else runs: what is measured is what the daemon makes of him, and not what the scheduler does.
    """
    keeper, remover = world.processors() or (None, None)
    ours = world.fresh("ours")
    config = world.configuration("one", [(f"{ours}/link", world.STORE)])
    words = ("one", rounds(300, effort), PAUSE, ours)
    times: dict[bool, list[float]] = {True: [], False: []}
    with world.daemon(config, keeper) as (daemon, _):
        world.put_first(daemon.pid)
        for turn in range(2 * rounds(10, effort)):
            daemon.settle()
            with ExitStack() as stack:
                if turn % 2:
                    stack.enter_context(flooded(f"{world.PLACE}/one.sock", remover))
                lines = world.removed(remover, *words, first=True)
            times[bool(turn % 2)] += microseconds(lines)[0]
    during, without = sample(times[True]), sample(times[False])
    command = "remover " + " ".join(map(str, words))
    yield Figure(
        "unlink to restored during a flood", during, "µs", "without", without, command=command
    )
    late = sample(during.p99), sample(without.p99)
    yield Figure(
        "99 of 100 in a flood within", late[0], "µs", "without", late[1], 1.0, command=command
    )


def microseconds(lines: list[tuple[int, ...]]) -> list[list[float]]:
    """Of lines of nanoseconds, the columns."""
    return [[value / 1000 for value in column] for column in zip(*lines, strict=True)]
