"""The service in a booted systemd: what an administrator sees of it, and what it survives."""

import os
import signal

import pytest

from tests.system.machine import LINK, SERVICE, TARGET, Machine
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "systemd-nspawn")


def identity(machine: Machine) -> tuple[int, int]:
    """Of the link: another one, if it was removed and made again, has another."""
    status = os.lstat(machine.path(LINK))
    return status.st_ino, status.st_ctime_ns


def signal_daemon(machine: Machine, number: signal.Signals) -> str:
    """Send NUMBER to the daemon alone; its process id in the machine."""
    pid = machine.show("MainPID")
    machine.systemctl("kill", "--kill-whom=main", f"--signal={number.name}", "ovl-linkd")
    return pid


def restored(machine: Machine) -> bool:
    return machine.link() == TARGET


def test_it_is_active_once_the_link_is_right(running: Machine) -> None:
    assert running.systemctl("is-active", "ovl-linkd") == "active"
    assert running.link() == TARGET
    assert running.show("StatusText") == "1 link ok"
    assert running.show("WatchdogUSec") == "30s"
    said = running.systemctl("status", "ovl-linkd")
    assert 'Status: "1 link ok"' in said
    assert "ovl-linkd.service; enabled" in said
    assert running.run("ovl-linkd", "status").returncode == 0


def test_a_start_leaves_nothing_failed_and_nothing_to_explain(running: Machine) -> None:
    """A warning at each boot is one that nobody reads any more."""
    assert running.systemctl("--failed", "--plain", "--no-legend") == ""
    assert running.show("NRestarts") == "0"
    assert running.journal("-p", "warning", "-u", "ovl-linkd*") == ""
    assert running.journal("-g", "ordering cycle") == ""


def test_a_missing_target_holds_nobody_up(machine: Machine) -> None:
    """On a fresh node containerd makes it, and containerd is started after us."""
    (machine.root / TARGET[1:]).rmdir()
    machine.boot()
    assert machine.show("ActiveState") == "active"
    assert machine.show("StatusText") == "0 links ok, 1 dangling"
    machine.path(TARGET).mkdir()
    wait_until(lambda: machine.show("StatusText") == "1 link ok")


def test_a_removed_link_is_back_at_once(running: Machine) -> None:
    running.path(LINK).unlink()
    wait_until(lambda: restored(running))
    wait_until(lambda: f"restored {LINK}" in running.journal("-u", "ovl-linkd"))


def test_a_killed_daemon_comes_back_and_mends_what_it_missed(running: Machine) -> None:
    pid = signal_daemon(running, signal.SIGKILL)
    running.path(LINK).unlink()
    wait_until(lambda: restored(running))
    assert running.show("MainPID") not in (pid, "0")
    assert running.show("NRestarts") == "1"
    wait_until(lambda: running.show("ActiveState") == "active")
    running.run("ovl-linkd", "reload")  # by a socket in the place of the one that was left there


def test_a_daemon_that_is_killed_over_and_over_is_never_given_up(machine: Machine) -> None:
    """systemd's default would leave the link to its fate after five starts in ten seconds."""
    machine.write(f"/etc/systemd/system/{SERVICE}.d/fast.conf", "[Service]\nRestartSec=1ms\n")
    machine.boot()
    for count in range(1, 8):
        signal_daemon(machine, signal.SIGKILL)
        wait_until(lambda count=count: machine.show("NRestarts") == str(count))  # type: ignore[misc]
        wait_until(lambda: machine.show("ActiveState") == "active")
    machine.path(LINK).unlink()
    wait_until(lambda: restored(machine))


def test_a_stuck_daemon_is_replaced(machine: Machine) -> None:
    """One that is stopped answers nothing, and to systemd it looks as well as ever."""
    machine.write(f"/etc/systemd/system/{SERVICE}.d/fast.conf", "[Service]\nWatchdogSec=1s\n")
    machine.boot()
    pid = signal_daemon(machine, signal.SIGSTOP)
    machine.path(LINK).unlink()
    wait_until(lambda: restored(machine))
    assert machine.show("MainPID") not in (pid, "0")
    assert "Watchdog timeout (limit 1s)!" in machine.journal("-u", "ovl-linkd")


def test_the_watchdog_is_fed(machine: Machine) -> None:
    machine.write(f"/etc/systemd/system/{SERVICE}.d/fast.conf", "[Service]\nWatchdogSec=2s\n")
    machine.boot()
    fed = "WatchdogTimestampMonotonic"
    start = int(machine.show(fed))
    wait_until(lambda: int(machine.show(fed)) > start + 2_000_000)
    assert machine.show("NRestarts") == "0"


def test_the_link_is_the_same_one_across_a_restart(running: Machine) -> None:
    """A program that mounts meanwhile must not meet a gap."""
    before = identity(running)
    pid = running.show("MainPID")
    running.systemctl("restart", "ovl-linkd")
    assert running.show("MainPID") != pid
    assert identity(running) == before


def test_a_stop_leaves_the_link_and_what_commands_go_by(running: Machine) -> None:
    before = identity(running)
    running.systemctl("stop", "ovl-linkd")
    assert identity(running) == before
    # Not at its next turn, in a minute: systemd would have killed it by then.
    assert (running.show("Result"), running.show("ExecMainStatus")) == ("success", "0")
    assert running.path("/run/ovl-linkd/published.json").exists()
    done = running.run("ovl-linkd", "status", code=3)
    assert "ctrdl  ok" in done.stdout
    short = running.run("ovl-linkd", "rewrite", f"lowerdir={TARGET}/1/fs:{TARGET}/2/fs").stdout
    assert short == f"lowerdir={LINK}/1/fs:{LINK}/2/fs\n"


@pytest.mark.parametrize("activated", [False, True])
def test_the_socket_unit_is_a_choice(machine: Machine, activated: bool) -> None:
    """With it, what asks while the daemon is down waits and is answered; without, it is told so."""
    if activated:
        machine.enable("ovl-linkd.socket")
    else:  # it is down for as long as it takes to ask
        drop_in = f"/etc/systemd/system/{SERVICE}.d/slow.conf"
        machine.write(drop_in, "[Service]\nRestartSec=1h\n")
    machine.boot()
    assert machine.show("StatusText") == "1 link ok"
    machine.run("ovl-linkd", "reload")
    machine.systemctl("restart", "ovl-linkd")
    machine.run("ovl-linkd", "reload")
    signal_daemon(machine, signal.SIGKILL)
    done = machine.run("ovl-linkd", "reload", code=None)
    assert done.returncode == (0 if activated else 3), done.stderr


def test_a_socket_that_was_removed_is_made_anew_by_a_restart(machine: Machine) -> None:
    """systemd goes on to pass the socket whose name is gone: nobody could connect to that."""
    machine.enable("ovl-linkd.socket")
    machine.boot()
    machine.path("/run/ovl-linkd/control.sock").unlink()
    machine.systemctl("restart", "ovl-linkd")
    machine.run("ovl-linkd", "reload")


def test_the_socket_unit_alone_starts_the_daemon(machine: Machine) -> None:
    machine.boot()
    machine.systemctl("stop", "ovl-linkd")
    machine.systemctl("start", "ovl-linkd.socket")
    assert machine.show("ActiveState") == "inactive"
    machine.run("ovl-linkd", "reload")
    wait_until(lambda: machine.show("ActiveState") == "active")
