"""A farm and its layers on disk, the daemon that has trouble there, and a look afterwards."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovl_linkd.links.ledger import Ledger, path_of
from tests.faults.forked import Forked
from tests.faults.policies import DEADLY, Death, told
from tests.faults.scene import OURS, RUN, says
from tests.waiting import wait_until


class Land:
    """A farm of the standard configuration, and layers; ``names``: every id that was ever seen."""

    def __init__(self, top: Path, resync: str = "1h") -> None:
        self.top, self.resync = top, resync
        self.farm, self.elsewhere = top / "f", top / "g"
        self.ledger = Path(path_of(str(self.farm)))
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
        whole = {"links": {"ctrdl": None}, "resync-interval": self.resync, "farm": farm}
        (RUN / "config.yaml").write_text(json.dumps(whole))

    def layers(self, names: str) -> list[str]:
        """The paths of the layers NAMES, a letter each."""
        return [str(self.top / "layers" / name) for name in names]

    def lease(self, daemon: Forked, layers: str) -> list[str]:
        """The short paths for LAYERS, a letter each."""
        paths = self.layers(layers)
        shorts: list[str] = daemon.call("Lease", paths=paths)["paths"]
        for short, path in zip(shorts, paths, strict=True):
            assert os.readlink(short) == path
        self.look()
        return shorts

    def hurt(self) -> None:
        """Remove the first name, and have the second lead elsewhere."""
        one, two, *_ = sorted(self.names)
        os.unlink(self.farm / one)
        os.unlink(self.farm / two)
        os.symlink("/elsewhere", self.farm / two)

    def look(self) -> None:
        """Whoever looks may hold a name that nobody was told yet: it never leads elsewhere."""
        for entry in self.farm.iterdir() if self.farm.is_dir() else ():
            if not entry.name.startswith("."):
                target = os.readlink(entry)
                if target != "/elsewhere":
                    assert self.names.setdefault(entry.name, target) == target

    def right(self) -> bool:
        """Whether every name that was ever seen leads where it did."""
        return all(says(self.farm / name) == target for name, target in self.names.items())

    @property
    def empty(self) -> bool:
        """Whether there is no entry."""
        return not os.listdir(self.farm)

    def check(self) -> None:
        """Nothing is left of a death, and nothing else was touched."""
        self.look()
        assert not [name for name in os.listdir(self.farm) if name.startswith(".")]
        wanted = {"f", ".f.ovl-linkd-farm", "layers", *(path.name for path in self.decoys)}
        assert set(os.listdir(self.top)) - {"g", ".g.ovl-linkd-farm"} == wanted
        assert all(path.read_text() == text for path, text in self.decoys.items())
        # The daemon runs: what it writes anew has another name for a moment.
        wait_until(lambda: set(os.listdir(RUN)) <= OURS | {"metrics.prom"}, "nothing is left")

    def agrees(self, log: str) -> bool:
        """Whether the ledger names what lies in the farm: all, unless it was lost as LOG says."""
        memory = Ledger(str(self.ledger)).peek()
        named = {(lease.id, lease.target) for lease in memory.leases} if memory else set()
        names = [name for name in os.listdir(self.farm) if not name.startswith(".")]
        found = {(name, os.readlink(self.farm / name)) for name in names}
        return named <= found if "ids go on above" in log else named == found


@contextmanager
def farmed(scratch: Path, fault: object, resync: str = "1h") -> Iterator[tuple[Land, Forked]]:
    """A land of its own for one FAULT, and a daemon; after it the next one, which goes on."""
    directory = scratch / "d"
    directory.mkdir(exist_ok=True)
    (scratch / "s").mkdir()
    asked = DEADLY if isinstance(fault, Death) else None
    land, daemon = Land(scratch / "s", resync), Forked(directory, asked=asked)
    try:
        with told(fault, daemon):
            yield land, daemon
            daemon.kill()
            land.look()
            log = daemon.log()
            (directory / "log").write_text("")
            daemon.rule(None)
            land.write()
            daemon.start_by_default()
            land.lease(daemon, "abcd")
            wait_until(lambda: land.agrees(log + daemon.log()), "what the ledger says")
            land.check()
            daemon.stop()
    finally:
        daemon.kill()
        (directory / "log").unlink(missing_ok=True)
        shutil.rmtree(scratch / "s")
        shutil.rmtree(RUN)
