"""Processes that do one thing again and again until they are told to stop, and what came of it."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import NamedTuple

_FORK = multiprocessing.get_context("fork")
REST = 0.001  # seconds after a failure
PATIENCE = 30.0  # seconds for what is under way when all are told to stop

Job = Callable[[], float]  # the seconds of what counts in it


class Failed(Exception):
    """It did not work this time. The text says why, alike each time that it is alike."""


class Record(NamedTuple):
    """What a job came to: the ``seconds`` of each time that it worked, its ``failures`` by text.

    ``row``: the most failures in a row.
    """

    seconds: list[float]
    failures: Counter[str]
    row: int

    @property
    def tries(self) -> int:
        """How often it was tried."""
        return len(self.seconds) + self.failures.total()


@contextmanager
def working(jobs: dict[str, Job], until_each_worked: bool = False) -> Iterator[dict[str, Record]]:
    """Have each of JOBS called again and again, in a process of its own.

    What is given is filled with their records at the end. A job raises Failed; after anything else
    that it raises it is not called again, and that is its failure. UNTIL_EACH_WORKED: nor is the
    end before that, but for those that still fail after PATIENCE.
    """
    stop = _FORK.Event()
    worked = {name: _FORK.Event() for name in jobs}
    crew = []
    for name, job in jobs.items():
        here, there = _FORK.Pipe(duplex=False)
        process = _FORK.Process(target=_work, args=(job, stop, worked[name], there), daemon=True)
        process.start()
        there.close()
        crew.append((name, process, here))
    records: dict[str, Record] = {}
    try:
        yield records
        deadline = time.monotonic() + PATIENCE
        for each in worked.values() if until_each_worked else ():
            each.wait(max(0.0, deadline - time.monotonic()))
    finally:
        stop.set()
        for name, process, pipe in crew:
            hangs = not pipe.poll(PATIENCE)
            records[name] = Record([], Counter(["it hangs"]), 1) if hangs else pipe.recv()
            process.kill()
            process.join()
            pipe.close()


def _work(job: Job, stop: Event, worked: Event, said: Connection) -> None:
    seconds: list[float] = []
    failures: Counter[str] = Counter()
    row = most = 0
    while not stop.is_set():
        try:
            seconds.append(job())
            worked.set()
            row = 0
        except Failed as error:
            failures[str(error)] += 1
            row += 1
            most = max(row, most)
            time.sleep(REST)
        except Exception as error:
            failures[f"{type(error).__name__}: {error}"] += 1
            most = max(row, 1)
            break
    said.send(Record(seconds, failures, most))
