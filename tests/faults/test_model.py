"""Random sequences of everything that may happen; after each the table "What keeping means" holds.

In this process, a thousand steps a second, and with a real daemon, which may also be killed.
"""

import json
import select
import shutil
import time
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from ovl_linkd.links.keeper import Keeper
from ovl_linkd.links.link import Link
from ovl_linkd.links.watch import Watch
from tests.faults.forked import Forked
from tests.faults.outside import BURSTS, CONFIGURATIONS, PATHS, Disk
from tests.faults.scene import RUN
from tests.soak import SOAK

pytestmark = pytest.mark.needs("root")

PATIENCE = 1000.0  # seconds of the keeper's clock, which costs nothing
A_WHILE = 60.0  # seconds for a daemon; a busy machine must not fail a test that is right


class Model(RuleBasedStateMachine):
    """What is done to the disk. Who keeps the links is the subclass's."""

    where = "/run"  # what is kept lies below it

    def __init__(self) -> None:
        super().__init__()
        self.disk = Disk(self.where)
        self.wanted = {name: self.disk.link(name, "t/u") for name in PATHS}
        self.begin()
        self.check()

    @rule(burst=BURSTS)
    def happens(self, burst: list[tuple[Any, ...]]) -> None:
        """Several things at once, and then quiet."""
        for event, *arguments in burst:
            self.disk.happen(event, *arguments)
        self.check()

    @rule(burst=BURSTS)
    def happens_while_it_is_down(self, burst: list[tuple[Any, ...]]) -> None:
        """It is killed, and started when all is over."""
        self.die()
        for event, *arguments in burst:
            self.disk.happen(event, *arguments)
        self.begin()
        self.check()

    @rule(links=CONFIGURATIONS)
    def is_configured_anew(self, links: dict[str, str]) -> None:
        """Links come, go, and lead elsewhere."""
        self.wanted = {name: self.disk.link(name, target) for name, target in links.items()}
        self.reload()
        self.check()

    def check(self) -> None:
        """Wait until it is quiet; compare with the table."""
        states = self.settle()
        assert states.keys() == self.wanted.keys()
        faults = [
            fault
            for name, link in self.wanted.items()
            for fault in self.disk.faults(link, states[name], self.ours(link))
        ]
        assert not faults
        assert not self.disk.destroyed(), "somebody's file was destroyed"
        assert not self.disk.left_behind()

    def teardown(self) -> None:
        self.die()
        self.disk.remove()

    def ours(self, _link: Link) -> bool:
        """Whether a foreign symlink is replaced there."""
        return True

    # -- the subclass's -----------------------------------------------------------------------

    def begin(self) -> None:
        """Begin to keep what is wanted."""
        raise NotImplementedError

    def die(self) -> None:
        """End without a word."""
        raise NotImplementedError

    def reload(self) -> None:
        """Keep what is wanted now."""
        raise NotImplementedError

    def settle(self) -> dict[str, str]:
        """Let it do what it has to; the state of each link."""
        raise NotImplementedError


class InProcess(Model):
    """A Keeper and a Watch, and a clock that waits for nothing."""

    def begin(self) -> None:
        self.now = 1000.0
        self.keeper = Keeper(lambda: self.now)
        self.watch = Watch()
        self.reload()

    def die(self) -> None:
        self.watch.close()

    def reload(self) -> None:
        links = self.wanted.values()
        self.keeper.want(links)
        ways = [(link.path, link.name, False) for link in links]
        ways += [(link.target, link.name, True) for link in links]
        self.watch.follow(ways)
        self.keeper.sweep()
        self.keeper.look(self.keeper.names, self.now)

    def settle(self) -> dict[str, str]:
        end = self.now + PATIENCE
        while True:
            while tags := self._news():
                self.keeper.look(tags, self.now)
            deadline = self.keeper.deadline()
            if deadline is None or deadline > end:
                return {status.link.name: status.state for status in self.keeper.statuses()}
            self.now = max(self.now, deadline)
            self.keeper.look(self.keeper.due(self.now), self.now)

    def _news(self) -> list[str]:
        """The tags of what is readable, as an event loop is told."""
        tags = []
        if select.select([self.watch.mounts_fileno()], [], [], 0)[0]:
            tags += self.watch.moved()
        if select.select([self.watch], [], [], 0)[0]:
            tags += self.watch.read() or ["nothing that concerns us"]
        return tags


class OutsideRun(InProcess):
    """Where a foreign symlink may be somebody's, that was there before the link was kept."""

    where = "/srv"

    def __init__(self) -> None:
        self.known: set[str] = set()
        super().__init__()

    @rule(name=st.sampled_from(sorted(PATHS)))
    def is_adopted(self, name: str) -> None:
        """As by `repair NAME --adopt`."""
        if name in self.wanted:
            self.known.add(name)
            self.keeper.insist([name], self.now, adopt=True)
            self.check()

    def die(self) -> None:
        super().die()
        self.known.clear()

    def reload(self) -> None:
        self.known &= self.wanted.keys()
        super().reload()

    def settle(self) -> dict[str, str]:
        states = super().settle()
        self.known |= {name for name, link in self.wanted.items() if self.disk.right(link)}
        return states

    def ours(self, link: Link) -> bool:
        return link.name in self.known


class OfADaemon(Model):
    """A daemon, killed and started, stopped and continued, with events that come when they come."""

    def begin(self) -> None:
        self.daemon = Forked(self.disk.top, policy=None)
        self._write()
        self.daemon.start_by_default()

    def die(self) -> None:
        self.daemon.kill()

    def reload(self) -> None:
        self._write()
        self.daemon.call("Reload")

    def _write(self) -> None:
        self.disk.make_acceptable()
        links = {"ctrdl": None} | {
            link.name: {"path": link.path, "target": link.target} for link in self.wanted.values()
        }
        # The safety net must not be what a test sees at work.
        whole = {"resync-interval": "1h", "metrics-file": None, "links": links}
        RUN.mkdir(exist_ok=True)
        (RUN / "config.yaml").write_text(json.dumps(whole))

    @rule(burst=BURSTS)
    def happens_while_it_is_stopped(self, burst: list[tuple[Any, ...]]) -> None:
        """As a busy machine stops it: all events at once."""
        with self.daemon.frozen():
            for event, *arguments in burst:
                self.disk.happen(event, *arguments)
        self.check()

    def settle(self) -> dict[str, str]:
        """Wait until nothing is left to be done: no fault, or a fight's pause."""
        deadline = time.monotonic() + A_WHILE
        while True:
            links = self.daemon.call("Status")["links"]
            states = {link["name"]: link["state"] for link in links}
            if not any(self.disk.faults(self.wanted[name], states[name]) for name in states):
                return states
            if any(link["fighting"] for link in links):
                self.daemon.call("Repair")
            if time.monotonic() > deadline:
                return states
            time.sleep(0.002)

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(RUN)


TestInProcess = InProcess.TestCase
TestOutsideRun = OutsideRun.TestCase
TestOfADaemon = OfADaemon.TestCase

TestInProcess.settings = settings(max_examples=600 if SOAK else 12, stateful_step_count=25)
TestOutsideRun.settings = settings(max_examples=300 if SOAK else 12, stateful_step_count=25)
# What fails is printed as it was: to make it short would take hundreds of daemons.
TestOfADaemon.settings = settings(
    max_examples=100 if SOAK else 6, stateful_step_count=15, phases=[Phase.generate]
)
