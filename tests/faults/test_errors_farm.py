"""Every system call of what the daemon does for its farm fails, with every error; then it passes.

As in test_errors.py; but `make test` takes calls of the names TELLING only.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ovl_linkd import leasing, published
from ovl_linkd.errors import UserError
from tests.faults.forked import Forked
from tests.faults.land import Land, farmed
from tests.faults.policies import ERRORS, MOST_CALLS, WINDOW, Outage, failures, stumbled
from tests.faults.supervised import Policy, go_on
from tests.soak import SOAK
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root")

TELLING = ("openat", "flock", "write", "symlink", "renameat2", "rename", "unlink")


@contextmanager
def troubled(scratch: Path, failure: Policy) -> Iterator[tuple[Land, Forked]]:
    """A land and a running daemon that is to meet FAILURE; at the end it has got over it."""
    with farmed(scratch, failure, "1s") as (land, daemon):
        daemon.start_by_default()
        yield land, daemon
        until_leased(land, daemon)
        wait_until(lambda: land.agrees(daemon.log()), "what the ledger says")
        assert not stumbled(daemon, failure)


def leased(land: Land, daemon: Forked, layers: str) -> bool:
    """Whether the client that mount.overlay has gets names for LAYERS; if not, it can say why."""
    known = published.Published((), daemon.socket, [], str(land.farm))
    try:
        prefixes = leasing.lease([os.fsencode(path) for path in land.layers(layers)], known)
    except UserError as error:
        assert error.what
        assert error.hint
        return False
    finally:
        land.look()
    for prefix in prefixes:
        assert os.readlink(prefix.name) == os.fsdecode(prefix.target)
    return True


def until_leased(land: Land, daemon: Forked) -> None:
    """Wait until all layers get names."""
    wait_until(lambda: leased(land, daemon, "abcd"), "a lease")


def test_a_call_of_a_lease_fails(scratch: Path) -> None:
    """Of a layer that has a name, and of two that have none."""
    for failure in failures(names=TELLING):
        with troubled(scratch, failure) as (land, daemon):
            land.lease(daemon, "a")
            daemon.rule(failure)
            leased(land, daemon, "abc")


def test_a_call_of_an_expiry_fails(scratch: Path) -> None:
    """It is tried again after a minute, or at the next reload."""
    for failure in failures(names=TELLING):
        with troubled(scratch, failure) as (land, daemon):
            land.lease(daemon, "ab")
            land.write(keep=0)
            daemon.rule(failure)
            wait_until(lambda d=daemon, x=land: d.reloaded() and x.empty, "over")  # type: ignore[misc]
            land.write()
            assert daemon.reloaded_in_the_end()


def test_a_call_of_a_repair_fails(scratch: Path) -> None:
    """Of an entry that is gone, of one that was replaced, and of the ledger."""
    for failure in failures(names=TELLING):
        with troubled(scratch, failure) as (land, daemon):
            land.lease(daemon, "ab")
            with daemon.frozen():
                land.hurt()
                os.unlink(land.ledger)
                daemon.rule(failure)
            wait_until(land.right, "mended")


def test_a_call_of_a_reload_fails(scratch: Path) -> None:
    """By which the farm moves to a place where there was one, and back again.

    What could not be removed there, who comes there next removes.
    """
    for failure in failures(names=TELLING):
        with troubled(scratch, failure) as (land, daemon):
            land.lease(daemon, "ab")
            land.write(path=str(land.elsewhere))
            daemon.rule(failure)
            assert daemon.reloaded_in_the_end()
            land.write()
            assert daemon.reloaded_in_the_end()
            if failure.call:
                land.write(path=str(land.elsewhere))
                assert daemon.reloaded()
                land.write()
                assert daemon.reloaded()


def test_a_call_of_a_start_fails(scratch: Path) -> None:
    """That finds an entry lost, and another one replaced."""
    for failure in failures(names=TELLING):
        with farmed(scratch, failure, "1s") as (land, daemon):
            daemon.start_by_default()
            land.lease(daemon, "ab")
            daemon.kill()
            land.hurt()
            daemon.rule(failure)
            if daemon.begin():
                wait_until(land.right, "mended")
                until_leased(land, daemon)
            else:
                assert daemon.end() == 1
                assert "\n  hint: " in daemon.log()
            assert not stumbled(daemon, failure)


# --- for a while -----------------------------------------------------------------------------

# What a daemon calls for its farm alone, or at each lease.
_CALLS = (
    *("flock", "fsync", "link", "newfstatat"),
    *("openat", "read", "readlink", "recvmsg", "rename", "renameat2", "sendmsg", "symlink"),
    *("unlink", "write"),
)


def outages() -> list[tuple[str, int]]:
    """Names of calls, and errors; in `make test` a telling few."""
    if SOAK:
        return [(name, number) for name in _CALLS for number in ERRORS if number != errno.EINTR]
    return [
        ("write", errno.ENOSPC),
        ("symlink", errno.EDQUOT),
        ("openat", errno.EMFILE),
    ]


@pytest.mark.parametrize(("name", "number"), outages())
def test_a_call_that_fails_for_a_while(scratch: Path, name: str, number: int) -> None:
    """No end, no loop without end, no flood of the log; and healed when it has passed."""
    outage = Outage(name, number)
    with troubled(scratch, outage) as (land, daemon):
        land.lease(daemon, "ab")
        with daemon.frozen():  # or what it hurts may be put right in the middle of it
            daemon.rule(outage)
            land.hurt()
            os.unlink(land.ledger)
        for _ in range(8):
            leased(land, daemon, "abc")
            time.sleep(WINDOW / 8)
        assert not daemon.dead
        wait_until(lambda: outage.failed, "met")
        assert outage.calls < MOST_CALLS
        assert len(daemon.log().splitlines()) < 100
        daemon.rule(go_on)
        wait_until(land.right, "mended")
