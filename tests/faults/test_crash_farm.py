"""The daemon killed before each system call of what it does for its farm; the next one goes on."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from ovl_linkd import client
from tests.faults.land import farmed
from tests.faults.policies import deaths
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root")


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
            wait_until(lambda d=daemon, x=land: d.dead or x.empty, "over")  # type: ignore[misc]
            assert daemon.settled() or death.call


def test_at_each_call_of_a_repair(scratch: Path) -> None:
    for death in deaths():
        with farmed(scratch, death) as (land, daemon):
            daemon.start_by_default()
            land.lease(daemon, "ab")
            with daemon.frozen():
                land.hurt()
                os.unlink(land.ledger)
                daemon.rule(death)
            assert daemon.settled() or death.call


def test_at_each_call_of_a_start(scratch: Path) -> None:
    """That finds an entry lost, and another one replaced."""
    for death in deaths():
        with farmed(scratch, death) as (land, daemon):
            daemon.start_by_default()
            land.lease(daemon, "ab")
            daemon.kill()
            land.hurt()
            daemon.rule(death)
            assert daemon.begin() or death.call


def test_at_each_call_of_a_reload(scratch: Path) -> None:
    """By which the farm moves to another place: there the next start finds it, and then back."""
    for death in deaths():
        with farmed(scratch, death) as (land, daemon):
            daemon.start_by_default()
            land.lease(daemon, "ab")
            land.write(path=str(land.elsewhere))
            daemon.rule(death)
            with suppress(client.NoAnswer, client.NotRunning):
                daemon.call("Reload")
                daemon.call("Lease", paths=land.layers("c"))
            assert daemon.settled() or death.call
            daemon.kill()
            daemon.rule(None)
            daemon.start_by_default()
            (short,) = daemon.call("Lease", paths=land.layers("c"))["paths"]
            assert os.listdir(land.elsewhere) == [os.path.basename(short)]
            assert [os.readlink(short)] == land.layers("c")
