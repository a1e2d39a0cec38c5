"""The Debian package on the Debians it is for: installed by apt in a booted system, and taken off.

Nothing is there but what Debian itself brings, so what it depends on has to be enough.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovl_linkd.links.flags import is_append_only
from tests.system.machine import LINK, TARGET, Machine
from tests.userland import Userland
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

PACKAGE = "/srv/ovl-linkd.deb"
DROP_IN = "/etc/ovl-linkd/config.yaml.d/50-more.yaml"
MORE = "links: {more: {path: /run/more, target: /srv}}\n"
GUARDED = "links: {own: {path: /run/ov/own, target: /srv, guard: append-only}}\n"
LINES = "/etc/tmpfiles.d/ovl-linkd.conf"
# What apt, dpkg and the journal write down whatever is installed.
LOGS = ("/var/lib/dpkg/", "/var/log/", "/var/cache/", "/var/lib/apt/")


@contextlib.contextmanager
def booted(installed: Path, place: Path, system: Path, package: Path) -> Iterator[Machine]:
    """A machine that is up, and has the package as a file."""
    place.mkdir()
    made = Machine(installed, place, system=system)
    shutil.copy(package, made.root / PACKAGE[1:])
    made.boot()
    try:
        yield made
    finally:
        print(made.run("journalctl", "-q", "--no-pager", "-o", "short-precise", code=None).stdout)
        made.scrap()


@pytest.fixture(params=["debian12", "debian13"])
def machine(request: pytest.FixtureRequest, package: Path, scratch: Path) -> Iterator[Machine]:
    (nothing := scratch / "nothing").mkdir()
    system = request.getfixturevalue(request.param)
    with booted(nothing, scratch / "place", system, package) as made:
        yield made


def apt(machine: Machine, *words: str) -> str:
    done = machine.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y", *words)
    return done.stdout + done.stderr


def install(machine: Machine, *words: str) -> None:
    """All that it depends on is there, so that no network is needed."""
    apt(machine, "install", "--no-install-recommends", *words, PACKAGE)


def files(machine: Machine) -> set[str]:
    """What is on the disk, but for the logs."""
    found = machine.run("find", "/", "-xdev").stdout.splitlines()
    return {path for path in found if not path.startswith(LOGS)}


def supervisor_is_spared(machine: Machine) -> None:
    """What `exec` asks of systemd: for one word that it doesn't know there would be no scope."""
    command = ("/usr/bin/ovl-linkd", "exec", "--", "sleep", "inf")
    machine.run("systemd-run", "--quiet", "--unit=engine", *command)
    listing = ("list-units", "--plain", "--no-legend", "ovl-linkd-exec-*.scope")
    wait_until(lambda: machine.systemctl(*listing))
    scope = machine.systemctl(*listing).split()[0]
    assert machine.show("Before", scope).split().count("engine.service") == 1
    assert machine.show("ManagedOOMPreference", scope) == "omit"
    assert machine.show("OOMPolicy", scope) == "continue"
    machine.systemctl("stop", "engine")
    wait_until(lambda: not machine.systemctl(*listing))


def test_it_is_installed_used_and_purged_without_a_trace(machine: Machine) -> None:
    before = files(machine)
    install(machine)
    assert machine.show("ActiveState") == "active"
    assert machine.show("UnitFileState") == "enabled"
    assert machine.show("UnitFileState", "ovl-linkd-links.service") == "enabled"
    assert machine.link() == TARGET
    machine.path(TARGET).mkdir(parents=True)
    wait_until(lambda: machine.show("StatusText") == "1 link ok")
    assert "ctrdl  ok" in machine.run("ovl-linkd", "status").stdout
    machine.path(LINK).unlink()
    wait_until(lambda: machine.link() == TARGET)
    machine.write(DROP_IN, MORE)
    machine.systemctl("reload", "ovl-linkd")
    assert machine.link("/run/more") == "/srv"
    assert machine.path(LINES).exists()
    explained = ("journalctl", "-x", "-q", "--no-pager", "-u", "ovl-linkd")
    wait_until(lambda: "The link ctrdl was missing and has been" in machine.run(*explained).stdout)
    assert "Operation not permitted" not in machine.journal("-u", "ovl-linkd")
    supervisor_is_spared(machine)
    # By hand: the unit, which was never started, has nothing to take off when it is stopped.
    machine.write(f"{os.path.dirname(DROP_IN)}/60-guarded.yaml", GUARDED)
    machine.run("ovl-linkd", "guard")
    assert is_append_only(str(machine.path("/run/ov")))
    # mount.overlay is switched on by a link, and switched off with the package.
    machine.run("ln", "-s", "/usr/lib/ovl-linkd/mount.overlay", "/usr/sbin/")
    layers = [f"/run/{'l' * 200}/{number}" for number in range(60)]
    machine.run("mkdir", "-p", "/run/m", *layers)
    mounted = ("mount", "-t", "overlay", "-o", f"lowerdir={':'.join(layers)}", "overlay", "/run/m")
    machine.run(*mounted)
    machine.run("umount", "/run/m")
    machine.run("rm", "-r", "/run/m", os.path.dirname(layers[0]))

    apt(machine, "remove", "ovl-linkd")
    assert machine.run(*mounted, code=None).returncode
    assert machine.show("ActiveState") == "inactive"
    assert machine.show("LoadState") == "not-found"
    assert not machine.path("/run/ovl-linkd").exists()
    assert not machine.path(LINES).exists()
    assert is_append_only(str(machine.path("/run/ov"))) is False
    assert machine.link() == TARGET, "what mounts through it goes on until the next boot"

    apt(machine, "purge", "ovl-linkd")
    shutil.rmtree(machine.path(DROP_IN).parent)
    shutil.rmtree(machine.path("/var/lib/containerd"))
    assert files(machine) ^ before == set()
    assert machine.systemctl("--failed", "--plain", "--no-legend") == ""


def test_an_upgrade_restarts_it_and_the_link_is_never_away(machine: Machine) -> None:
    install(machine)
    pid, inode = machine.show("MainPID"), os.lstat(machine.path(LINK)).st_ino
    machine.systemctl("disable", "ovl-linkd")
    install(machine, "--reinstall")
    assert machine.show("MainPID") not in (pid, "0")
    assert machine.show("UnitFileState") == "disabled", "what the administrator chose"
    assert os.lstat(machine.path(LINK)).st_ino == inode


def test_its_removal_names_who_will_miss_it_and_does_not_fail(machine: Machine) -> None:
    """A prerm that fails may leave the upgrade of a whole system half done."""
    install(machine)
    machine.write("/etc/fstab", f"overlay /mnt overlay noauto,ro,lowerdir={LINK}/1:{LINK}/2\n")
    said = apt(machine, "remove", "ovl-linkd")
    assert f"/etc/fstab:1: {LINK}: overlay /mnt" in said


def test_it_survives_the_upgrade_to_the_next_debian(
    debian12: Path, debian13: Path, package: Path, scratch: Path
) -> None:
    """The first boot with another Python may come before anybody has compiled anything for it.

    An environment that was made for Python 3.11 would be dead, and with it whatever mounts.
    """
    (before := scratch / "before").mkdir()
    old = Userland(debian12, before)
    old.path(DROP_IN).parent.mkdir(parents=True)
    old.path(DROP_IN).write_text(MORE)
    old.run("apt-get", "-qq", "install", shutil.copy(package, scratch / "ovl-linkd.deb"))
    lines = old.path(LINES).read_text()
    assert "L /run/more - - - - /srv\n" in lines, "no service runs here that would write them"
    listed = old.run("dpkg", "-L", "ovl-linkd").stdout.splitlines()
    compiled = old.run("find", "/usr/lib/ovl-linkd", "-name", "*.cpython-311.pyc").stdout
    assert compiled, "what the old Python left lies there, too"
    kept = scratch / "kept"
    for path in (*listed, *compiled.splitlines()):
        if not old.path(path).is_dir():
            (kept / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(old.path(path), kept / path[1:])

    with booted(kept, scratch / "after", debian13, package) as new:
        new.systemctl("start", "ovl-linkd")
        assert new.link() == TARGET
        new.run("ovl-linkd", "reload")
        new.run("ln", "-s", "/usr/lib/ovl-linkd/mount.overlay", "/usr/sbin/")
        layers = [f"/run/{'x' * 60}/{number}/fs" for number in range(127)]
        new.run("mkdir", "-p", *layers)
        new.path(layers[-1]).joinpath("lowest").touch()
        new.run("mount", "-t", "overlay", "-o", f"lowerdir={':'.join(layers)}", "many", "/mnt")
        assert os.listdir(new.path("/mnt")) == ["lowest"]
