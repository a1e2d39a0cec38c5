"""A caller that does whatever it can think of: nothing dies, nobody hangs, no mount is wrong."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from ovl_linkd import supervisors
from tests.intercept.world import World, children
from tests.kernel.world import joined, make_layers
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "cc")

SECONDS = int(os.environ.get("FUZZ_SECONDS", "3"))


def test_a_caller_that_does_what_it_can(world: World, programs: Path) -> None:
    layers = make_layers(range(160, 100, -1), os.fsencode(world.snapshots))
    seed = int(os.environ.get("FUZZ_SEED", time.time()))
    fuzzer = (programs / "fuzzer", str(seed), str(SECONDS), world.merged)
    words = [*world.command(), *fuzzer, world.file(joined(layers))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        wait_until(lambda: len(supervisors.running()) == 1)
        (ours,) = supervisors.running()
        first = children(ours.pid)[:3]
        assert process.stdout
        while process.poll() is None:
            if children(ours.pid)[:3] != first:  # they may go because all is over
                time.sleep(0.5)
                assert process.poll() is not None, f"a worker died; seed {seed}"
            time.sleep(0.05)
        said = process.stdout.read()
    assert process.returncode == 0, f"{said}; seed {seed}"
    calls, right = map(int, re.findall(r"\d+", said))
    assert calls > 0 < right
    print(f"{calls} calls, {right} of them right")
