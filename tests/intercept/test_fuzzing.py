"""A caller that does whatever it can think of: nothing dies, nobody hangs, no mount is wrong."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from ovl_linkd.intercept.guard import LEAST
from tests.intercept.world import World, children, the_supervisor
from tests.kernel.world import joined, make_layers
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "cc")

FIRST = LEAST + 1  # processes that a guard starts with, and keeps: workers, and its deputy
SECONDS = int(os.environ.get("FUZZ_SECONDS", "3"))


def beginners(pid: int) -> list[int]:
    """The oldest children of the guard PID: those that it began with, unless one of them died."""
    return children(pid)[:FIRST]


def over(process: "subprocess.Popen[str]") -> bool:
    """Whether it has ended by now: a busy machine may let that happen between two looks."""
    return process.poll() is not None


def test_a_caller_that_does_what_it_can(world: World, programs: Path) -> None:
    layers = make_layers(range(160, 100, -1), os.fsencode(world.snapshots))
    seed = int(os.environ.get("FUZZ_SEED", time.time()))
    fuzzer = (programs / "fuzzer", str(seed), str(SECONDS), world.merged)
    words = [*world.command(), *fuzzer, world.file(joined(layers))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        ours = the_supervisor()
        first = wait_until(lambda: them if len(them := beginners(ours.pid)) == FIRST else None)
        assert process.stdout
        while process.poll() is None:
            # They may go because all is over; but who died before that has an heir.
            heirs = set(beginners(ours.pid)).difference(first)
            assert not heirs or over(process), f"a worker or the deputy died; seed {seed}"
            time.sleep(0.05)
        said = process.stdout.read()
    assert process.returncode == 0, f"{said}; seed {seed}"
    calls, right = map(int, re.findall(r"\d+", said))
    assert calls > 0 < right
    print(f"{calls} calls, {right} of them right")
