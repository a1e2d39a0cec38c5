"""mount.overlay killed before each system call of a mount."""

import os
import signal
from pathlib import Path

import pytest

from tests.faults.mounting import RUNGS, on, ran
from tests.faults.policies import deaths, told

pytestmark = pytest.mark.needs("root")


@pytest.mark.parametrize("rung", RUNGS)
def test_at_each_call_of_a_mount(scratch: Path, rung: str) -> None:
    """It is there once, with all its layers, or not at all, and the next attempt works."""
    log = scratch / "log.m"
    with on(rung, scratch) as (store, kernel):
        before = sorted(os.listdir(scratch))
        for death in deaths(least=1, kernel=kernel):
            with told(death):
                code, _ = ran(store.mount, log, death)
                assert code == (-signal.SIGKILL if death.call else 0)
                if store.mounts():
                    store.take_off()
                assert ran(store.mount, log, kernel)[0] == 0
                store.take_off()
                assert sorted(os.listdir(scratch)) == before, "left behind"
