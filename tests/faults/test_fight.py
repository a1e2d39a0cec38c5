"""A rival that insists on the same path a thousand times a second."""

import itertools
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.daemon.world import Daemon
from tests.faults.scene import says
from tests.others import meanwhile
from tests.soak import SOAK
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root")

SECONDS = 60.0 if SOAK else 3.0
LAST_PAUSE = 30.0  # of a fight, in seconds
RATE = 1000  # a second
FIGHT = "being replaced again and again"
MOST = 0.5  # of one processor, as the benchmark of a fight has it


def rewritten(path: Path) -> None:
    """As `ln -sfn` does it."""
    new = f"{path}.rival"
    os.symlink("/elsewhere", new)
    os.rename(new, path)


def replaced(path: Path) -> None:
    """Bit by bit."""
    os.unlink(path)
    os.symlink("/elsewhere", path)


WAYS: dict[str, list[Callable[[Path], None]]] = {
    "rewrites": [rewritten],
    "removes": [os.unlink],
    "replaces": [replaced],
    "does all of it": [rewritten, os.unlink, replaced],
}


@contextmanager
def rival(path: Path, way: str) -> Iterator[None]:
    """A process that does it meanwhile, without an end."""

    def fight() -> None:
        for act in itertools.cycle(WAYS[way]):
            with suppress(OSError):
                act(path)
            time.sleep(1 / RATE)

    with meanwhile(fight):
        yield
    Path(f"{path}.rival").unlink(missing_ok=True)


def put_right(metrics: Path) -> dict[str, int]:
    """How many repairs METRICS tells of, by what was found."""
    counts = re.findall(r'repairs_total\{found="(\w+)".*\} (\d+)', metrics.read_text())
    return {found: int(count) for found, count in counts}


def spent(pid: int) -> float:
    """Seconds of a processor that the process PID has used, of proc(5)'s utime and stime."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def fought(daemon: Daemon, metrics: Path, way: str) -> bool:
    """Whether what is to be seen of DAEMON in a fight of this WAY is seen, or METRICS tells it."""
    repairs = put_right(metrics)
    if way == "removes":
        return repairs["missing"] > 20
    return FIGHT in daemon.log() and repairs["wrong"] >= 1


@pytest.mark.parametrize("way", WAYS if SOAK else ["removes", "does all of it"])
def test_a_fight_costs_little_and_is_won(daemon: Daemon, scratch: Path, way: str) -> None:
    """Half a processor, a few lines, no foreign link put right at once; the last word is ours."""
    (scratch / "t").mkdir()
    (scratch / "p").mkdir()
    path = scratch / "p/link"
    metrics = scratch / "metrics"
    daemon.write({"one": (path, scratch / "t")}, metrics_file=str(metrics))
    daemon.start(python=[sys.executable])
    before = spent(daemon.pid)
    with rival(path, way):
        time.sleep(SECONDS)
        used = spent(daemon.pid) - before
        lines = len(daemon.log().splitlines())
        # What is told of at all may be told later, and on a busy machine it may begin later.
        wait_until(lambda: fought(daemon, metrics, way), "a fight, and told of")
    assert used < MOST * SECONDS
    assert lines < 20 + 3 * SECONDS
    right = str(scratch / "t")
    wait_until(lambda: says(path) == right, "the last word is ours", LAST_PAUSE + 10)
    wait_until(lambda: os.listdir(scratch / "p") == ["link"], "nothing is left")
    repairs = put_right(metrics)
    print(f"{way}: {repairs} in {SECONDS:.0f} s, {used:.1f} s of a processor, {lines} lines")
    if way == "removes":  # what is missing is made at once, as often as it takes
        assert repairs["wrong"] == 0
    else:  # at most ten until it is a fight, then one after each pause, which doubles
        # Fewer than ten where the rival takes away some of what was found, before it is replaced.
        assert daemon.log().count(FIGHT) == 1
        assert repairs["wrong"] <= 20
