"""Any order of leases, expiries, restarts, crashes and accidents: no id ever names another layer.

The model knows less than the farm: which layer each id was ever given to, and until when each was
promised. Everything that is to hold is said in those two.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ovl_linkd.links.terms import Full
from tests.crashing import Crash, crashing
from tests.farms import KEEP, NOW, World

MOST = 6
LAYERS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4)


class FarmModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp(dir="/run"))
        self.top.chmod(0o755)
        self.now, self.boot = NOW, 1
        self.world = World(self.top)
        self.world.start(most=MOST)
        self.given: dict[str, str] = {}  # id -> layer, in this boot
        self.promised: dict[str, float] = {}  # id -> until when
        self.right = True  # nothing happened since all was put right
        self.strays: set[str] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.top)

    # -- what callers do --------------------------------------------------------------------

    @rule(layers=LAYERS)
    def lease(self, layers: list[str]) -> None:
        try:
            names = self.world.lease(*layers, now=self.now)
        except Full:
            assert self.world.farm.status().entries + len(set(layers)) > MOST
            return
        for name, layer in zip(names, layers, strict=True):
            assert self.given.setdefault(name, layer) == layer
            assert self.world.leads(name) == layer
            self.promised[name] = self.now + KEEP
        self._note_what_is_there()

    @rule(layers=LAYERS, at=st.integers(1, 12))
    def lease_and_die(self, layers: list[str], at: int) -> None:
        try:
            with crashing(at):
                self.world.lease(*layers, now=self.now)
        except (Crash, Full):
            pass
        self._note_what_is_there()
        self.restart()

    # -- time -------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, 50.0, 70.0, KEEP / 2, KEEP - 1, KEEP + 61, 3 * KEEP]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.world.settle(self.now)

    @rule(at=st.integers(1, 12))
    def die_at_an_expiry(self, at: int) -> None:
        self.now += KEEP
        try:
            with crashing(at):
                self.world.settle(self.now)
        except Crash:
            pass
        self.restart()

    # -- the daemon -------------------------------------------------------------------------

    @rule()
    def restart(self) -> None:
        self.now += 0.001  # no start of a process takes less
        self.world.start(f"b{self.boot}", most=MOST)
        self.world.farm.look(self.now)
        self.world.settle(self.now)
        self.right = True

    @rule(most=st.sampled_from([MOST, MOST + 2]))
    def reload(self, most: int) -> None:
        self.world.farm.want(self.world.farm.wanted._replace(most=most))
        self.world.farm.want(self.world.farm.wanted._replace(most=MOST))

    @rule()
    def reboot(self) -> None:
        self.boot += 1
        self.now = 5.0
        self.given, self.promised = {}, {}
        self.restart()
        self.strays = self._names()  # nobody was told of them in this boot

    # -- accidents --------------------------------------------------------------------------

    @rule(which=st.integers(0, MOST), how=st.sampled_from(["removed", "replaced"]))
    def an_entry_goes(self, which: int, how: str) -> None:
        for name in sorted(self._names())[which : which + 1]:
            path = self.world.path / name
            path.unlink()
            if how == "replaced":
                path.symlink_to("/elsewhere")
            self.right = False

    @rule()
    def the_directory_goes(self) -> None:
        shutil.rmtree(self.world.path, ignore_errors=True)
        self.right = False

    @rule()
    def the_ledger_goes(self) -> None:
        self.world.ledger.unlink(missing_ok=True)
        self.world.farm.tend(self.now)

    @rule()
    def the_ledger_goes_while_nobody_looks(self) -> None:
        """Then what was promised can't be kept, but what it led to is still nothing else."""
        if not self.world.path.exists():
            return  # with the directory gone as well, nothing says that there ever was a farm
        self.world.ledger.unlink(missing_ok=True)
        self._note_what_is_there()
        self.promised.clear()
        self.restart()

    @rule()
    def everything_is_looked_at(self) -> None:
        self.world.farm.look(self.now)
        self.world.settle(self.now)
        self.right = True

    # -- what is to hold --------------------------------------------------------------------

    @invariant()
    def no_id_names_another_layer(self) -> None:
        for name in self._names() - self.strays:
            layer = self.world.leads(name)
            if layer != "elsewhere":
                assert self.given.setdefault(name, str(layer)) == layer

    @invariant()
    def what_was_promised_is_there(self) -> None:
        for name, until in self.promised.items():
            if self.right and until > self.now:
                assert self.world.leads(name) == self.given[name]

    def _names(self) -> set[str]:
        try:
            return {name for name in os.listdir(self.world.path) if not name.startswith(".")}
        except FileNotFoundError:
            return set()

    def _note_what_is_there(self) -> None:
        """Whoever looks into the directory may use a name that nobody was told yet."""
        self.no_id_names_another_layer()


@pytest.mark.hypothesis
@pytest.mark.needs("root")
def test_no_id_ever_names_another_layer() -> None:
    run_state_machine_as_test(
        FarmModel,
        settings=settings(stateful_step_count=30, suppress_health_check=list(HealthCheck)),
    )
