"""What others may try on the farm, before each call of the daemon that names something of it.

Nobody but root may write where a farm is. What is left to others is what they own, the layers, and
the time after a mistake of an administrator's that lets them in.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ovl_linkd import client
from tests.daemon.world import RENAME_EXCHANGE, renameat2
from tests.faults.forked import Forked
from tests.faults.land import Land
from tests.faults.policies import told
from tests.faults.scene import RUN, look, says
from tests.faults.supervised import Call
from tests.others import NOBODY

pytestmark = pytest.mark.needs("root")


class Siege:
    """A land, and a directory of root's that the attacker is after: all names are there, too."""

    def __init__(self, top: Path) -> None:
        self.land = Land(top)
        self.victim, self.theirs = top.parent / "victim", top.parent / "theirs"
        for directory in (self.victim, self.theirs):
            directory.mkdir()
        for name in (
            *"1234",
            ".1.ovl-linkd",
            ".2.ovl-linkd",
            ".f.ovl-linkd-farm",
            "published.json",
        ):
            for victim in (name, f"{name}.new"):
                (self.victim / victim).write_text("root's")
                (self.victim / victim).chmod(0o600)
        self.before = look(self.victim)
        self.his: list[Path] = []

    def unharmed(self) -> None:
        """Nothing of root's was written, removed or given another mode, and nothing is new there;
        what others put in a way is there, too."""
        assert look(self.victim) == self.before
        assert all(path.read_text() == "his" for path in self.his)

    def steal(self, path: str) -> None:
        """Have PATH away, whatever it is."""
        with suppress(OSError):
            os.rename(path, self.theirs / f"stolen{len(os.listdir(self.theirs))}")

    def remove(self) -> None:
        """Take it all away."""
        for directory in (self.land.top, self.victim, self.theirs):
            shutil.rmtree(directory)
        shutil.rmtree(RUN)


Trick = Callable[[Siege, str], None]


def plant_symlink(siege: Siege, path: str) -> None:
    """What the call names becomes a symlink to a file of root's with that name."""
    siege.steal(path)
    with suppress(OSError):
        os.symlink(siege.victim / os.path.basename(path), path)


def plant_hard_link(siege: Siege, path: str) -> None:
    """Or that file itself, by another name."""
    siege.steal(path)
    with suppress(OSError):
        os.link(siege.victim / os.path.basename(path), path)


def plant_file(siege: Siege, path: str) -> None:
    """Or a file of his, which is to be there afterwards."""
    siege.steal(path)
    with suppress(OSError):
        Path(path).write_text("his")
        siege.his.append(Path(path))


def exchange(siege: Siege, path: str) -> None:
    """What the call names changes places with a symlink to root's directory."""
    lure = siege.theirs / f"lure{len(os.listdir(siege.theirs))}"
    lure.symlink_to(siege.victim)
    with suppress(OSError):
        renameat2(lure, path, RENAME_EXCHANGE)


def replace_the_farm(siege: Siege, _path: str) -> None:
    """The farm's directory becomes one of his."""
    siege.steal(str(siege.land.farm))
    with suppress(OSError):
        siege.land.farm.mkdir()
        os.chown(siege.land.farm, NOBODY, NOBODY)


def lead_the_farm_elsewhere(siege: Siege, _path: str) -> None:
    """Or a symlink of his to root's."""
    siege.steal(str(siege.land.farm))
    with suppress(OSError):
        siege.land.farm.symlink_to(siege.victim)
        os.lchown(siege.land.farm, NOBODY, NOBODY)


TRICKS = (
    *(plant_symlink, plant_hard_link, plant_file, exchange, replace_the_farm),
    lead_the_farm_elsewhere,
)


def swap_the_layers(siege: Siege, _path: str) -> None:
    """The directory of the layers, which is his own, becomes a symlink to root's."""
    siege.steal(str(siege.land.top / "layers"))
    with suppress(OSError):
        (siege.land.top / "layers").symlink_to(siege.victim)


class Attack:
    """The policy that plays TRICK before call number ``at`` that names something of the farm."""

    def __init__(self, at: int, trick: Trick, siege: Siege) -> None:
        self._left = at
        self._trick = trick
        self._siege = siege
        self.call: Call | None = None

    def __call__(self, call: Call) -> None:
        mine = call.path.startswith((f"{self._siege.land.top}/", f"{RUN}/published"))
        if self.call or call.forked or not mine:
            return
        if self._left == 0:
            self.call = call
            self._trick(self._siege, call.path)
        self._left -= 1

    def __str__(self) -> str:
        return f"{self._trick.__name__} before {self.call}"


def attacks(trick: Trick, scratch: Path) -> Iterator[tuple[Attack, Siege, Forked]]:
    """One before each call, until one is not met any more."""
    for at in range(1000):
        for name in ("s", "d"):
            (scratch / name).mkdir()
        siege, daemon = Siege(scratch / "s"), Forked(scratch / "d")
        attack = Attack(at, trick, siege)
        try:
            with told(attack):
                yield attack, siege, daemon
                siege.unharmed()
                assert not daemon.dead
                assert "Traceback" not in daemon.log()
        finally:
            daemon.kill()
            siege.remove()
            shutil.rmtree(scratch / "d")
        if attack.call is None:
            assert at > 2
            return


def leased(siege: Siege, daemon: Forked, layers: str) -> dict[str, str]:
    """Name -> layer, for LAYERS; nothing if that is refused."""
    paths = siege.land.layers(layers)
    try:
        return dict(zip(daemon.call("Lease", paths=paths)["paths"], paths, strict=True))
    except client.CallError as error:
        assert error.name in ("FarmUnusable", "NotALayer")
        return {}


def put_out_of_place(siege: Siege) -> None:
    """Have everything of the farm be put back: two entries and the ledger."""
    for name in ("1", "2"):
        siege.steal(str(siege.land.farm / name))
    siege.steal(str(siege.land.ledger))
    os.symlink("/elsewhere", siege.land.farm / "2")


@pytest.mark.parametrize("trick", TRICKS)
def test_where_others_may_write_nothing_of_root_s_is_reached(scratch: Path, trick: Trick) -> None:
    """The farm's parent was root's when the daemon started, and became everybody's."""
    for attack, siege, daemon in attacks(trick, scratch):
        daemon.start_by_default()
        leased(siege, daemon, "ab")
        siege.land.top.chmod(0o777)
        daemon.rule(attack)
        with daemon.frozen():
            put_out_of_place(siege)
        assert not leased(siege, daemon, "abc"), "nothing is leased there"


def test_a_layer_that_is_swapped_gets_no_name_but_its_own(scratch: Path) -> None:
    """Between the look at it and symlink(2): the name still says the path that was given."""
    for attack, siege, daemon in attacks(swap_the_layers, scratch):
        daemon.start_by_default()
        given = leased(siege, daemon, "a")
        daemon.rule(attack)
        given |= leased(siege, daemon, "abc")
        for short, layer in given.items():
            assert says(Path(short)) == layer


def test_a_ledger_that_others_made_is_not_believed(scratch: Path) -> None:
    """Who could write beside the farm for a moment had root make names there, for any directory."""
    (scratch / "s").mkdir()
    (scratch / "d").mkdir()
    siege, daemon = Siege(scratch / "s"), Forked(scratch / "d", None)
    try:
        daemon.start_by_default()
        given = leased(siege, daemon, "a")
        daemon.kill()
        text = siege.land.ledger.read_text().replace("layers/a", "layers/b")
        siege.steal(str(siege.land.ledger))
        siege.land.ledger.write_text(text)
        os.chown(siege.land.ledger, NOBODY, NOBODY)
        daemon.start_by_default()
        given |= leased(siege, daemon, "b")
        for short, layer in given.items():
            assert says(Path(short)) == layer
        assert f"belongs to user {NOBODY}: ids go on above" in daemon.log()
        daemon.stop()
    finally:
        daemon.kill()
        siege.remove()
