"""A farm among the programs that clear /run and /tmp: healed without a guard, safe with one."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial

import pytest

from ovl_linkd.links.flags import SET, is_append_only, set_append_only
from tests.daemon.farms import CLEANERS, Farm
from tests.daemon.world import Daemon, command
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "systemd-tmpfiles", "tmpreaper", "find")
_OLD = 30 * 24 * 3600


@pytest.fixture
def farm(daemon: Daemon) -> Iterator[Farm]:
    """Below a directory of its own, which is cleaned."""
    made = Farm(daemon)
    place = daemon.directory / "tmp"
    place.mkdir()
    made.path = place / "f"
    made.ledger = place / ".f.ovl-linkd-farm"
    made.configure()
    yield made
    if is_append_only(str(made.path)):
        set_append_only(str(made.path), wanted=False)


def clean(farm: Farm, cleaner: str) -> None:
    """Run it when everything is 30 days old: a look at a symlink makes it young again."""
    place = farm.path.parent
    with farm.daemon.frozen():
        for path in [*farm.path.iterdir(), *place.iterdir()]:
            if is_append_only(str(path)):
                continue  # its times can't be set either
            then = os.lstat(path).st_mtime - _OLD
            os.utime(path, (then, then), follow_symlinks=False)
        words = CLEANERS[cleaner](place)
        subprocess.run(words, check=False, capture_output=True, stdin=subprocess.DEVNULL)


def test_what_a_cleaner_took_is_back(farm: Farm) -> None:
    farm.daemon.start()
    layers = farm.layers(20)
    leased = dict(zip(farm.lease(*layers), layers, strict=True))
    for cleaner in CLEANERS:
        before = farm.status()["repairs"]
        clean(farm, cleaner)
        farm.until_right(leased)
        wait_until(partial(_repaired, farm, before + 20), f"all is back after {cleaner}")
        wait_until(farm.ledger.exists, "the ledger is back")
        assert farm.lease(*layers) == list(leased)


def _repaired(farm: Farm, count: int) -> bool:
    return bool(farm.status()["repairs"] >= count)


def test_a_guarded_farm_is_out_of_every_cleaners_reach(farm: Farm) -> None:
    """Not even for the moment between removal and repair, in which a mount would fail."""
    farm.configure(guard="append-only")
    farm.daemon.start()
    shorts = farm.lease(*farm.layers(20))
    assert guard(farm) == (0, f"{farm.path}: append-only\n", "")
    before = {short: os.lstat(short).st_ino for short in shorts}
    for cleaner in CLEANERS:
        clean(farm, cleaner)
        assert {short: os.lstat(short).st_ino for short in shorts} == before, cleaner
    wait_until(farm.ledger.exists, "the ledger is back")
    assert farm.status()["repairs"] == 0


def guard(farm: Farm, *words: str) -> tuple[int, str, str]:
    done = command("guard", "--config", farm.daemon.config, *words)
    return done.returncode, done.stdout, done.stderr


# -- the guard --------------------------------------------------------------------------------


def test_a_guarded_farm_goes_on_leasing_and_lets_nothing_go(farm: Farm) -> None:
    farm.configure(guard="append-only", keep=0)
    farm.daemon.start()
    one, two = farm.layers(2)
    (first,) = farm.lease(one)
    status = farm.status()
    assert (status["guard"], status["guarded"]) == ("append-only", False)
    assert status["remedy"] == SET
    assert guard(farm)[0] == guard(farm)[0] == 0
    assert farm.lease(one, two)[0] == first
    for change in (
        lambda: os.unlink(first),
        lambda: os.rename(first, f"{first}x"),
        lambda: shutil.move(farm.path, f"{farm.path}x"),
        lambda: os.replace(two, first),
    ):
        with pytest.raises(OSError, match=r"not permitted|cross-device"):
            change()
    status = farm.status()
    assert (status["guarded"], status["remedy"], status["entries"]) == (True, None, 2)
    farm.daemon.stop()
    farm.daemon.start()
    assert farm.lease(one) == [first]


def test_the_guard_goes_with_the_configuration(farm: Farm) -> None:
    farm.configure(guard="append-only")
    farm.daemon.start()
    (layer,) = farm.layers(1)
    (short,) = farm.lease(layer)
    guard(farm)
    assert guard(farm, "--off") == (0, f"{farm.path}: not append-only any more\n", "")
    assert guard(farm, "--off") == (0, "", "")
    guard(farm)
    farm.configure(keep=0)
    farm.daemon.call("Reload")
    assert guard(farm) == (0, f"{farm.path}: not append-only any more\n", "")
    assert farm.status()["state"] == "ok", "that it could not go before is no trouble"
    farm.daemon.call("Reload")
    wait_until(lambda: not os.path.lexists(short), "the entry expires again")


def test_a_flag_that_somebody_else_set_is_met_with_patience(farm: Farm) -> None:
    """Entries that are over can't go; that is said, and costs nothing else."""
    farm.configure(keep=0)
    farm.daemon.start()
    (layer, other) = farm.layers(2)
    set_append_only(str(farm.path), wanted=True)
    (short,) = farm.lease(layer)
    status = farm.until(lambda status: status["state"] == "failing", "said")
    assert "lsattr -d" in status["remedy"]
    assert farm.lease(layer) == [short]
    assert os.readlink(farm.lease(other)[0]) == other


def test_what_was_replaced_before_the_guard_came_is_said_and_leased_anew(farm: Farm) -> None:
    """rename(2) fails there, and a temporary name would stay for good."""
    farm.configure(guard="append-only")
    farm.daemon.start()
    (layer,) = farm.layers(1)
    (short,) = farm.lease(layer)
    with farm.daemon.frozen():
        os.unlink(short)
        os.symlink("/elsewhere", short)
        set_append_only(str(farm.path), wanted=True)
    status = farm.until(lambda status: status["state"] == "wrong", "said")
    assert "systemctl stop ovl-linkd-guard" in status["remedy"]
    (other,) = farm.lease(layer)
    assert other != short
    assert sorted(os.listdir(farm.path)) == sorted(map(os.path.basename, (short, other)))
    farm.until(lambda status: status["state"] == "ok", "ok")


@pytest.mark.parametrize("what", ["missing", "symlink", "file", "everybody"])
def test_only_the_farms_own_directory_gets_the_flag(farm: Farm, what: str) -> None:
    """An attacker would like root to make /etc append-only."""
    farm.configure(guard="append-only")
    elsewhere = farm.daemon.directory / "elsewhere"
    elsewhere.mkdir()
    if what == "symlink":
        farm.path.symlink_to(elsewhere)
    elif what == "file":
        farm.path.touch()
    elif what == "everybody":
        farm.path.mkdir()
        farm.path.chmod(0o777)
    code, out, err = guard(farm)
    assert (code, out) == (1, "")
    assert str(farm.path) in err
    assert not is_append_only(str(elsewhere))
    assert not is_append_only(str(farm.path))


def test_without_a_farm_there_is_nothing_to_guard(farm: Farm) -> None:
    farm.daemon.write({})
    assert guard(farm) == (0, "nothing is to be guarded\n", "")
    farm.daemon.write_raw("fram: 1")
    assert guard(farm)[0] == 1
