"""The daemon killed before each system call of what it does for its farm; the next one goes on."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ovl_linkd import client
from tests.daemon.world import wait_until
from tests.faults.forked import Forked
from tests.faults.scene import OURS, RUN
from tests.faults.test_crash import Death, deaths, told

pytestmark = pytest.mark.needs("root")


class Land:
    """A farm of the standard configuration, and layers; ``names``: every id that was ever seen."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.farm = top / "f"
        self.names: dict[str, str] = {}
        RUN.mkdir(exist_ok=True)
        for name in "abcd":
            (top / "layers" / name).mkdir(parents=True)
        self.decoys = {top / name: name for name in (".f.ovl-linkd-farm2", "f2", ".f.ovl-linkd")}
        for path, text in self.decoys.items():
            path.write_text(text)
        self.write()

    def write(self, **farm: object) -> None:
        """Write the configuration of no link and the FARM."""
        farm = {"path": str(self.farm), **farm}
        whole = {"links": {"ctrdl": None}, "resync-interval": "1h", "farm": farm}
        (RUN / "config.yaml").write_text(json.dumps(whole))

    def lease(self, daemon: Forked, layers: str) -> list[str]:
        """The short paths for LAYERS, a letter each."""
        paths = [str(self.top / "layers" / layer) for layer in layers]
        shorts: list[str] = daemon.call("Lease", paths=paths)["paths"]
        for short, path in zip(shorts, paths, strict=True):
            assert os.readlink(short) == path
        return shorts

    def look(self) -> None:
        """Whoever looks may hold a name that nobody was told yet: it never leads elsewhere."""
        for entry in self.farm.iterdir() if self.farm.is_dir() else ():
            if not entry.name.startswith("."):
                target = os.readlink(entry)
                if target != "/elsewhere":
                    assert self.names.setdefault(entry.name, target) == target

    def check(self) -> None:
        """Nothing is left of a death, and nothing else was touched."""
        self.look()
        assert not [name for name in os.listdir(self.farm) if name.startswith(".")]
        wanted = {"f", ".f.ovl-linkd-farm", "layers", *(path.name for path in self.decoys)}
        assert set(os.listdir(self.top)) == wanted
        assert all(path.read_text() == text for path, text in self.decoys.items())
        assert set(os.listdir(RUN)) <= OURS | {"metrics.prom"}


@contextmanager
def farmed(scratch: Path, death: Death) -> Iterator[tuple[Land, Forked]]:
    """A land of its own for one DEATH, and a daemon; after it the next one, which goes on."""
    directory = scratch / "d"
    directory.mkdir(exist_ok=True)
    (scratch / "s").mkdir()
    land, daemon = Land(scratch / "s"), Forked(directory)
    try:
        with told(death):
            yield land, daemon
            daemon.kill()
            land.look()
            daemon.rule(None)
            land.write()
            daemon.start_by_default()
            land.lease(daemon, "abcd")
            land.check()
            daemon.stop()
    finally:
        daemon.kill()
        shutil.rmtree(scratch / "s")
        shutil.rmtree(RUN)


def test_at_each_call_of_a_lease(scratch: Path) -> None:
    for death in deaths():
        with farmed(scratch, death) as (land, daemon):
            daemon.start_by_default()
            first = land.lease(daemon, "a")
            daemon.rule(death)
            with suppress(client.NoAnswer, client.NotRunning):
                assert land.lease(daemon, "abc")[:1] == first
            assert daemon.settled() or death.call


def test_at_each_call_of_an_expiry(scratch: Path) -> None:
    for death in deaths():
        with farmed(scratch, death) as (land, daemon):
            daemon.start_by_default()
            land.lease(daemon, "ab")
            land.write(keep=0)
            daemon.rule(death)
            with suppress(client.NoAnswer, client.NotRunning):
                daemon.call("Reload")
            wait_until(lambda d=daemon, x=land: d.dead or not os.listdir(x.farm), "over")  # type: ignore[misc]
            assert daemon.settled() or death.call


def test_at_each_call_of_a_repair(scratch: Path) -> None:
    for death in deaths():
        with farmed(scratch, death) as (land, daemon):
            daemon.start_by_default()
            one, two = land.lease(daemon, "ab")
            with daemon.frozen():
                os.unlink(one)
                os.unlink(two)
                os.symlink("/elsewhere", two)
                os.unlink(land.top / ".f.ovl-linkd-farm")
                daemon.rule(death)
            assert daemon.settled() or death.call
