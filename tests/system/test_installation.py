"""`make install` over a service that runs, and `make uninstall` from under it."""

import os

import pytest

from tests.system.conftest import install
from tests.system.machine import CHECKOUT, LINK, TARGET, Machine
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

DROP_IN = "/etc/ovl-linkd/config.yaml.d/50-more.yaml"


def executable(machine: Machine) -> str:
    """The interpreter that the daemon was started by."""
    pid = machine.show("MainPID")
    return machine.path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]


def uninstall(machine: Machine, *words: str, code: int = 0) -> str:
    done = machine.run("make", "-C", CHECKOUT, "--silent", "uninstall", *words, code=code)
    return done.stdout + done.stderr


def test_an_upgrade_lets_the_daemon_go_on_with_what_it_has_loaded(running: Machine) -> None:
    """What it has not loaded yet, too: a reload imports what reads YAML."""
    pid, old = running.show("MainPID"), executable(running)
    install(running.root)
    running.write(DROP_IN, "links: {more: {path: /run/more, target: /srv}}\n")
    running.systemctl("reload", "ovl-linkd")
    assert running.link("/run/more") == "/srv"
    assert running.show("MainPID") == pid
    running.systemctl("daemon-reload")
    running.systemctl("restart", "ovl-linkd")
    assert executable(running) != old
    assert running.show("StatusText") == "2 links ok"


def test_an_uninstall_leaves_nothing_of_ours_and_all_of_theirs(running: Machine) -> None:
    running.write(DROP_IN, "links: {more: {path: /run/more, target: /srv}}\n")
    running.systemctl("reload", "ovl-linkd")
    uninstall(running)
    assert running.run("systemctl", "cat", "ovl-linkd", code=1).stdout == ""
    assert running.systemctl("--failed", "--plain", "--no-legend") == ""
    assert running.run("sh", "-c", "command -v ovl-linkd", code=127).stdout == ""
    for path in (LINK, "/run/more", "/run/ovl-linkd", "/usr/local/lib/ovl-linkd"):
        assert not os.path.lexists(running.path(path)), path
    places = ("/etc/systemd", "/etc/tmpfiles.d", "/usr/local", "/run/systemd", "/var/lib/systemd")
    found = running.run("find", *places, "-name", "*ovl-linkd*").stdout
    assert found == ""
    assert running.path(TARGET).is_dir()
    assert running.path(DROP_IN).is_file()


def test_an_uninstall_is_refused_while_a_unit_needs_the_link(running: Machine) -> None:
    running.write("/etc/systemd/system/containerd.service", "[Service]\nExecStart=true\n")
    running.run("ovl-linkd", "init", "--drop-in", "containerd.service", "--write")
    said = uninstall(running, code=2)
    assert "/etc/systemd/system/containerd.service.d/ovl-linkd.conf" in said
    assert running.show("ActiveState") == "active"
    uninstall(running, "FORCE=1")
    assert running.link() == TARGET, "who was overridden keeps the link"
    wait_until(
        lambda: running.run("systemctl", "is-active", "ovl-linkd", code=None).returncode != 0
    )
