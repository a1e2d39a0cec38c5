"""What finds the link there: at the boot, after a cleaner, behind a mount."""

import os

import pytest

from tests.system.machine import LINK, SERVICE, TARGET, Machine
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

LINES = "/etc/tmpfiles.d/ovl-linkd.conf"
DROP_IN = "/etc/ovl-linkd/config.yaml.d/50-more.yaml"
MOUNTERS = [
    f"{name}.service"
    for name in ("containerd", "docker", "podman", "crio", "kubelet", "k3s", "rke2-server")
]


def add_mounter(machine: Machine, name: str) -> None:
    """A service that needs the link as it starts, and knows nothing of us."""
    machine.write(
        f"/etc/systemd/system/{name}",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        f"ExecStart=sh -c 'readlink {LINK} >/run/seen.%n'\n"
        "[Install]\nWantedBy=multi-user.target\n",
    )
    machine.enable(name)


def test_whatever_mounts_starts_after_the_link_is_there(machine: Machine) -> None:
    """By the order of the units alone: with no line for systemd-tmpfiles, only we make it."""
    machine.path(LINES).symlink_to("/dev/null")
    for name in MOUNTERS:
        add_mounter(machine, name)
    machine.boot()
    for name in MOUNTERS:
        assert machine.path(f"/run/seen.{name}").read_text() == f"{TARGET}\n"
        started = int(machine.show("ExecMainStartTimestampMonotonic", name))
        assert started >= int(machine.show("ActiveEnterTimestampMonotonic"))


def test_a_daemon_that_cannot_start_holds_nobody_up(machine: Machine) -> None:
    machine.write(DROP_IN, "links: 1\n")
    add_mounter(machine, "containerd.service")
    machine.boot()
    assert machine.show("ActiveState") == "failed"
    assert machine.path("/run/seen.containerd.service").read_text() == f"{TARGET}\n"


def test_a_file_system_of_fstab_is_mounted_through_the_link(machine: Machine) -> None:
    """Long before the daemon: for the mount to wait for it would be an ordering cycle."""
    (machine.root / TARGET[1:] / "1/fs/here").mkdir(parents=True)
    (machine.root / "mnt/through").mkdir()
    machine.write("/etc/fstab", f"{LINK}/1/fs /mnt/through none bind 0 0\n")
    machine.boot()
    assert machine.path("/mnt/through/here").is_dir()
    assert machine.show("ActiveState", "mnt-through.mount") == "active"
    assert machine.show("ActiveState") == "active"
    assert machine.journal("-g", "ordering cycle") == ""


def test_the_early_links_are_those_in_run_only(machine: Machine) -> None:
    """Elsewhere the file system may not be mounted yet: the link would lie below the mount."""
    machine.write(LINES, "L /run/early - - - - /srv\nL /srv/late - - - - /mnt\n")
    machine.write(
        "/etc/systemd/system/look.service",
        "[Unit]\nDefaultDependencies=no\nAfter=local-fs-pre.target\nBefore=local-fs.target\n"
        "[Service]\nType=oneshot\nExecStart=sh -c 'ls /run/early /srv/late >/run/seen 2>&1; :'\n"
        "[Install]\nWantedBy=sysinit.target\n",
    )
    machine.enable("look.service")
    machine.boot()
    seen = machine.path("/run/seen").read_text()
    assert "/run/early" in seen
    assert "cannot access '/srv/late'" in seen
    assert machine.journal("-u", "ovl-linkd-links", "-p", "err") == ""
    assert machine.link("/srv/late") == "/mnt"


def test_a_cleaner_leaves_the_link_alone_even_without_the_daemon(running: Machine) -> None:
    """systemd-tmpfiles spares a path that has a line of its own; beside it everything goes."""
    running.write(DROP_IN, "links: {old: {path: /run/aged/old, target: /srv}}\n")
    running.systemctl("reload", "ovl-linkd")
    running.systemctl("stop", "ovl-linkd")
    running.write("/etc/tmpfiles.d/clean.conf", "d /run/aged 0755 root root am:1d\n")
    running.path("/run/aged/stranger").symlink_to("/srv")
    for name in ("old", "stranger"):
        os.utime(running.path(f"/run/aged/{name}"), (0, 0), follow_symlinks=False)
    running.run("systemd-tmpfiles", "--clean")
    assert running.link("/run/aged/stranger") is None
    assert running.link("/run/aged/old") == "/srv"


def test_a_link_that_a_cleaner_removed_is_back(running: Machine) -> None:
    """Where somebody has masked the line that spares it, or asks for removal outright."""
    running.path(LINES).symlink_to("/dev/null")
    running.write("/etc/tmpfiles.d/clean.conf", f"r {LINK}\n")
    before = os.lstat(running.path(LINK)).st_ino
    running.run("systemd-tmpfiles", "--remove", "clean.conf")
    wait_until(lambda: running.link() == TARGET)
    assert os.lstat(running.path(LINK)).st_ino != before


def test_a_mount_over_the_parent_gets_a_link_and_can_go_again(running: Machine) -> None:
    """The daemon has a mount namespace of its own: it must see the mount, and not hold it."""
    running.write(DROP_IN, "links: {b: {path: /run/x/b, target: /srv}}\n")
    running.systemctl("reload", "ovl-linkd")
    running.run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run/x")
    wait_until(lambda: running.link("/run/x/b") == "/srv")
    running.run("umount", "/run/x")
    assert running.link("/run/x/b") == "/srv"


def test_a_link_outside_run_takes_the_drop_in_that_the_log_names(running: Machine) -> None:
    running.write(DROP_IN, "links: {out: {path: /opt/out, target: /srv}}\n")
    running.systemctl("reload", "ovl-linkd")
    assert running.show("StatusText") == "1 link ok, 1 failing"
    said = running.journal("-u", "ovl-linkd")
    assert "/opt/out: failing: Read-only file system: /opt/out" in said
    assert "ReadWritePaths=/opt" in said
    running.write(
        f"/etc/systemd/system/{SERVICE}.d/opt.conf",
        "[Unit]\nRequiresMountsFor=/opt\n[Service]\nReadWritePaths=/opt\n",
    )
    examined = running.run("ovl-linkd", "doctor", code=1).stdout
    assert "to do: ovl-linkd repair out\n" in examined, "the daemon runs, and knows why"
    assert "Read-only file system" in running.run("ovl-linkd", "repair", "out", code=1).stdout
    running.systemctl("daemon-reload")
    running.systemctl("restart", "ovl-linkd")
    assert running.show("StatusText") == "2 links ok"
    assert running.link("/opt/out") == "/srv"
