"""No polling: a daemon to which nothing happens does nothing, however busy the machine is."""

import select
import time
from pathlib import Path

import pytest

from tests.daemon.world import Daemon, mount, umount

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def kept(daemon: Daemon) -> Daemon:
    """Keeps 100 links, one of them blocked, one dangling, one waiting; resyncs in an hour."""
    top = daemon.directory
    (top / "t").mkdir()
    (top / "p").mkdir()
    links = {f"l{number}": (top / f"p/l{number}", top / "t") for number in range(97)}
    (top / "blocked").mkdir()
    links |= {
        "blocked": (top / "blocked", top / "t"),
        "dangling": (top / "dangling", top / "nothing"),
        "waiting": (top / "no/where/link", top / "t"),
    }
    daemon.write(links)
    daemon.start()
    return daemon


def test_nothing_happens_when_nothing_happens(kept: Daemon) -> None:
    """Not one wake-up in a second: no polling, no timer, whatever state the links are in."""
    assert kept.wake_ups(1.0) == 0


def test_unrelated_events_elsewhere_wake_nobody(kept: Daemon, scratch: Path) -> None:
    (scratch / "elsewhere").mkdir()
    before = kept.until_asleep()
    for number in range(1000):
        (scratch / "elsewhere" / str(number)).touch()
    assert kept.until_asleep() == before


def test_a_fight_that_is_over_is_no_work(daemon: Daemon) -> None:
    """The link was put right before the pause was over, by another hand or by a missing one."""
    top = daemon.directory
    (top / "t").mkdir()
    daemon.write({"one": (top / "one", top / "t")})
    daemon.start()
    for number in range(50):
        (top / "new").symlink_to(f"/elsewhere{number}")
        (top / "new").rename(top / "one")
        link = daemon.until("one", lambda link: link["state"] == "ok" or bool(link["fighting"]))
        if link["fighting"] and link["state"] == "wrong":
            break
    with daemon.repairing("one", "missing"):
        (top / "one").unlink()
    # The pause was for a quarter of a second, or half: after it there is nothing to do.
    select.select([], [], [], 1.0)
    assert daemon.wake_ups(1.0) <= 2
    daemon.until_asleep()  # and doesn't go round and round


def test_a_hundred_mounts_a_second_elsewhere_cost_little(kept: Daemon, scratch: Path) -> None:
    """Each container start makes some. The table is not read, and looked at ten times a second.

    Two hundred changes would be as many wake-ups; a tenth of a second is two, of news and a timer.
    """
    (scratch / "m").mkdir()
    before, began = kept.until_asleep(), time.monotonic()
    for _ in range(100):
        mount("t", scratch / "m", "tmpfs")
        umount(scratch / "m")
        select.select([], [], [], 0.005)
    tenths = (time.monotonic() - began) * 10  # more of them where a mount takes longer
    assert kept.until_asleep() - before < max(60, 20 + 2 * tenths)
