"""A rival that insists on the same path a thousand times a second."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.daemon.world import Daemon
from tests.soak import SOAK

pytestmark = pytest.mark.needs("root")

SECONDS = 60.0 if SOAK else 3.0
LAST_PAUSE = 30.0  # of a fight, in seconds
RATE = 1000  # a second


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
    """A process that does it meanwhile."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            for number in range(sys.maxsize):
                with suppress(OSError):
                    WAYS[way][number % len(WAYS[way])](path)
                time.sleep(1 / RATE)
        os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        Path(f"{path}.rival").unlink(missing_ok=True)


def processor_time(daemon: Daemon) -> float:
    """Seconds that the daemon has used."""
    fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("way", WAYS if SOAK else ["does all of it"])
def test_a_fight_costs_little_and_is_won(daemon: Daemon, scratch: Path, way: str) -> None:
    """Bounded: half of one processor at most, a handful of lines; and the last word is ours."""
    (scratch / "t").mkdir()
    (scratch / "p").mkdir()
    path = scratch / "p/link"
    daemon.write({"one": (path, scratch / "t")})
    daemon.start(python=[sys.executable])
    before, began = processor_time(daemon), time.monotonic()
    with rival(path, way):
        time.sleep(SECONDS)
    used = processor_time(daemon) - before
    lines = len(daemon.log().splitlines())
    repairs = daemon.link("one")["repairs"]
    took = time.monotonic() - began
    shared = f"{used / took:.0%} of a processor"
    print(f"{way}: {repairs} repairs in {took:.0f} s, {shared}, {lines} lines")

    assert used < 0.2 + 0.5 * took
    assert lines < 20 + 3 * took
    end = time.monotonic() + LAST_PAUSE + 10
    while not (path.is_symlink() and os.readlink(path) == str(scratch / "t")):
        assert time.monotonic() < end, "the rival had the last word"
        time.sleep(0.01)
    assert os.listdir(scratch / "p") == ["link"]
