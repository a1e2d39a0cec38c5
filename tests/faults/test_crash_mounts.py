"""mount.overlay killed before each system call of a mount."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from ovl_linkd.commands import mount_overlay
from tests.daemon.world import umount
from tests.faults.policies import deaths, told
from tests.faults.supervised import Supervised, go_on

pytestmark = pytest.mark.needs("root")


@pytest.mark.parametrize("layers", [3, 60])
def test_at_each_call_of_a_mount(scratch: Path, layers: int) -> None:
    """It is there as it was asked for, or not at all, and the next attempt works."""
    point, store = scratch / "m", scratch / ("store" * 12)
    point.mkdir()
    for number in range(layers):
        (store / str(number)).mkdir(parents=True)
        (store / str(number) / f"file{number}").touch()
    lower = ":".join(str(store / str(number)) for number in range(layers))
    words = ["overlay", str(point), "-o", f"ro,lowerdir={lower}"]

    def mount() -> int:
        return mount_overlay.main(words)

    files = sorted(f"file{number}" for number in range(layers))
    for death in deaths(least=1):
        code = Supervised(mount, str(scratch / "log"), death).wait()
        with told(death):
            assert code == (-signal.SIGKILL if death.call else 0)
            there = sorted(os.listdir(point))
            assert there in ([], files)
            if there:
                umount(point)
            assert Supervised(mount, str(scratch / "log"), go_on).wait() == 0
            assert sorted(os.listdir(point)) == files
            umount(point)
            with suppress(OSError):
                umount(point)
                raise AssertionError("something is mounted twice")
