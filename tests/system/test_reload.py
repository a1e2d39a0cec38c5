"""`systemctl reload`, good and broken, and what the next boot makes of it."""

import pytest

from tests.system.machine import LINK, SERVICE, TARGET, Machine
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

DROP_IN = "/etc/ovl-linkd/config.yaml.d/50-more.yaml"
LINES = "/etc/tmpfiles.d/ovl-linkd.conf"
MORE = "links: {more: {path: /run/more/é%h, target: '/srv/a b'}}\n"
BROKEN = "links: {more: {path: more, target: /srv}}\n"
REASON = f'{DROP_IN}:1:22: links.more.path: "more" is not absolute'


def reload(machine: Machine, code: int = 0) -> None:
    machine.run("systemctl", "reload", "ovl-linkd", code=code)


def test_a_reload_ends_when_it_has_come_true(running: Machine) -> None:
    """A script that reloads and then mounts would else be too early now and then."""
    running.write(DROP_IN, MORE)
    reload(running)
    assert running.link("/run/more/é%h") == "/srv/a b"
    assert running.show("StatusText") == "1 link ok, 1 dangling"
    running.path(DROP_IN).unlink()
    reload(running)
    assert running.show("StatusText") == "1 link ok"
    assert running.link("/run/more/é%h") == "/srv/a b", "what is no more kept stays as it is"


def test_a_reload_that_fails_says_why_and_changes_nothing(running: Machine) -> None:
    pid = running.show("MainPID")
    running.write(DROP_IN, BROKEN)
    reload(running, code=1)
    assert running.show("ActiveState") == "active"
    assert running.show("MainPID") == pid
    assert running.show("StatusText") == "1 link ok"
    wait_until(lambda: REASON in running.systemctl("status", "ovl-linkd"))
    running.path(LINK).unlink()
    wait_until(lambda: running.link() == TARGET)


def test_the_next_boot_has_the_links_of_the_last_reload(running: Machine) -> None:
    """Made by systemd-tmpfiles, which reads paths in a way of its own, before anything mounts."""
    running.write(DROP_IN, MORE)
    reload(running)
    running.off()
    running.write(f"/etc/systemd/system/{SERVICE}.d/off.conf", "[Unit]\nConditionPathExists=/no\n")
    running.boot()
    assert running.show("ActiveState") == "inactive"
    assert running.link() == TARGET
    assert running.link("/run/more/é%h") == "/srv/a b"


def test_the_packaged_lines_do_for_the_packaged_configuration(running: Machine) -> None:
    assert not running.path(LINES).exists()
    running.write(DROP_IN, MORE)
    reload(running)
    assert "/run/more/" in running.path(LINES).read_text()
    running.path(DROP_IN).unlink()
    reload(running)
    assert not running.path(LINES).exists(), "nothing is left in /etc without need"


def test_a_start_brings_the_lines_up_to_date(machine: Machine) -> None:
    """The configuration was changed while the machine was off, or with nobody reloading."""
    machine.write(DROP_IN, MORE)
    machine.boot()
    wait_until(lambda: machine.path(LINES).exists())
    assert "/run/more/" in machine.path(LINES).read_text()


@pytest.mark.parametrize("mask", [False, True], ids=["edited", "masked"])
def test_lines_of_the_administrator_are_left_alone(machine: Machine, mask: bool) -> None:
    file = machine.path(LINES)
    if mask:
        file.symlink_to("/dev/null")
    else:
        machine.write(LINES, "# mine\n")
    machine.write(DROP_IN, MORE)
    machine.boot()
    reload(machine)
    assert file.is_symlink() if mask else file.read_text() == "# mine\n"
    assert f"{LINES} was not written by ovl-linkd" in machine.journal("-u", "ovl-linkd")


def test_a_read_only_etc_keeps_nobody_from_starting_and_reloading(running: Machine) -> None:
    running.write(DROP_IN, MORE)
    running.run("mount", "--bind", "-o", "ro", "/etc/tmpfiles.d", "/etc/tmpfiles.d")
    running.systemctl("restart", "ovl-linkd")
    assert running.link("/run/more/é%h") == "/srv/a b"
    reload(running)
    said = running.journal("-u", "ovl-linkd")
    assert said.count(f"ovl-linkd tmpfiles: Read-only file system: {LINES}") == 2


def test_a_boot_into_a_broken_configuration_has_the_last_good_links(running: Machine) -> None:
    """What mounts through them still works; and nobody has to look far for what is wrong."""
    running.write(DROP_IN, MORE)
    reload(running)
    running.off()
    running.write(DROP_IN, BROKEN)
    running.boot()
    assert running.show("ActiveState") == "failed"
    assert running.show("ExecMainStatus") == "78"
    assert running.show("NRestarts") == "0", "it does not get better by itself"
    assert running.show("StatusText").startswith(f"configuration faulty: {REASON}")
    running.run("journalctl", "--sync")
    said = running.run("systemctl", "status", "ovl-linkd", code=3).stdout
    assert f'Status: "configuration faulty: {REASON}' in said
    assert f"ovl-linkd run: {REASON}" in said
    assert running.link() == TARGET
    assert running.link("/run/more/é%h") == "/srv/a b"
    running.path(DROP_IN).unlink()
    running.systemctl("start", "ovl-linkd")
    assert running.show("StatusText") == "1 link ok"
