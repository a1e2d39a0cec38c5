"""Killed before each system call of a change of the farm, and of a mount by mount.overlay."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ovl_linkd import client
from ovl_linkd.commands import mount_overlay
from tests.daemon.world import umount, wait_until
from tests.faults.forked import Forked
from tests.faults.scene import RUN
from tests.faults.supervised import Supervised, go_on
from tests.faults.test_crash import Death, as_sandboxed, deaths, told

pytestmark = pytest.mark.needs("root")


# --- the farm --------------------------------------------------------------------------------


class Farmer:
    """A daemon with a farm in `top`/f, and layers in `top`/t to lease."""

    def __init__(self, top: Path) -> None:
        self.top, self.farm = top, top / "f"
        for name in "abc":
            (top / "t" / name).mkdir(parents=True)
        RUN.mkdir(exist_ok=True)
        whole = {"links": {"ctrdl": None}, "farm": {"path": str(self.farm)}, "metrics-file": None}
        (RUN / "config.yaml").write_text(json.dumps(whole))
        (top / "d").mkdir()
        self.daemon = Forked(top / "d")

    def lease(self, *names: str) -> dict[str, str]:
        """Name -> short path; nothing if the daemon dies of it."""
        paths = [str(self.top / "t" / name) for name in names]
        try:
            short = client.call(self.daemon.socket, "Lease", paths=paths)["paths"]
        except (client.NoAnswer, client.NotRunning):
            wait_until(lambda: self.daemon.dead, "its end")
            return {}
        return dict(zip(names, short, strict=True))

    def check(self, given: dict[str, str]) -> None:
        """What was GIVEN leads where it led; whatever else is there leads to a layer, too."""
        for name, short in given.items():
            assert os.readlink(short) == str(self.top / "t" / name)
        targets = [os.readlink(self.farm / entry) for entry in os.listdir(self.farm)]
        assert len(targets) == len(set(targets)), "a layer has two names"
        assert set(targets) <= {str(self.top / "t" / name) for name in "abc"}
        assert set(os.listdir(self.top)) <= {"t", "d", "f", ".f.ovl-linkd-farm"}

    def remove(self) -> None:
        """Take it all away."""
        self.daemon.kill()
        shutil.rmtree(self.top)
        shutil.rmtree(RUN)


@contextmanager
def farmer(scratch: Path, death: Death) -> Iterator[Farmer]:
    (scratch / "s").mkdir()
    made = Farmer(scratch / "s")
    try:
        with told(death):
            yield made
            made.daemon.kill()
            made.daemon.rule(as_sandboxed)
            made.daemon.start_by_default()
            again = made.lease("a", "b", "c")
            made.check(again)
            assert len(os.listdir(made.farm)) == 3
            made.daemon.stop()
    finally:
        made.remove()


def test_at_each_call_of_a_lease(scratch: Path) -> None:
    """What was given before stays, and what is given after a death is never another layer's."""
    for death in deaths():
        with farmer(scratch, death) as farm:
            farm.daemon.start_by_default()
            given = farm.lease("a")
            farm.daemon.rule(death)
            given |= farm.lease("a", "b")
            assert len(given) == 2 or death.call
            farm.daemon.kill()
            farm.daemon.rule(as_sandboxed)
            farm.daemon.start_by_default()
            farm.check(given)


def test_at_each_call_of_a_start_with_a_farm(scratch: Path) -> None:
    """That has lost an entry, and finds another replaced."""
    for death in deaths():
        with farmer(scratch, death) as farm:
            farm.daemon.start_by_default()
            given = farm.lease("a", "b")
            farm.daemon.kill()
            os.unlink(given["a"])
            os.unlink(given["b"])
            os.symlink("/elsewhere", given["b"])
            farm.daemon.rule(death)
            assert farm.daemon.begin() or death.call


# --- mount.overlay ---------------------------------------------------------------------------


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
