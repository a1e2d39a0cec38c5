"""The drop-ins that `ovl-linkd init` prints, in a systemd that runs: quoting, order, refusals.

ovl-linkd.service is a stand-in here, so that the tests can break the link as they like.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovl_linkd.commands import init_drop_in
from ovl_linkd.formats import unit
from ovl_linkd.links.link import Link
from tests.system.machine import Machine

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

STORE = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
ROOT = Link("ctrd", "/run/ctrd", STORE)
# What systemd would expand, split, unescape, or not take at all.
ODD = [
    Link("odd", "/run/100%n$HOME\"x'", "/srv/a b/${HOME} %n %% $$ \"q\" 'r' \\s\\n; x/é\u00a0"),
    Link("bytes", "/run/b", "/srv/" + os.fsdecode(b"tab\tand\n\xff byte")),
    Link("dash", "/run/-d", "/srv/-p"),
]
STAND_IN = """\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
"""


@pytest.fixture
def machine(scratch: Path) -> Iterator[Machine]:
    """A machine that is off, with a containerd that notes that it was started."""
    for name in ("nothing", "place"):
        (scratch / name).mkdir()
    made = Machine(scratch / "nothing", scratch / "place")
    made.write("/etc/systemd/system/ovl-linkd.service", STAND_IN)
    for name in ("containerd", "odd"):
        made.write(f"/etc/systemd/system/{name}.service", STAND_IN)
    for drop_in in (
        init_drop_in.for_user("containerd.service", [ROOT]),
        init_drop_in.for_user("odd.service", ODD),
    ):
        init_drop_in.write(drop_in, str(made.root))
    yield made
    if made.on:
        print(made.run("journalctl", "-q", "--no-pager", code=None).stdout)
    made.scrap()


def starts(machine: Machine, name: str) -> bool:
    done = machine.run("systemctl", "restart", name, code=None)
    return done.returncode == 0


def test_containerd_never_starts_into_a_link_that_isn_t_right(machine: Machine) -> None:
    """It would make a directory in its place, or come up without its snapshotter."""
    shutil.rmtree(machine.path(STORE).parent, ignore_errors=True)  # of a host that has containerd
    machine.boot()
    link, store = machine.path(ROOT.path), machine.path(STORE)

    assert not starts(machine, "containerd"), "nothing there"
    assert (store.stat().st_mode & 0o7777, store.stat().st_uid) == (0o700, 0), "a fresh node"
    assert store.parent.stat().st_mode & 0o7777 == 0o711
    assert not os.path.lexists(link)
    link.symlink_to("/nowhere")
    assert not starts(machine, "containerd"), "it dangles"
    link.unlink()
    link.symlink_to("/etc")
    assert not starts(machine, "containerd"), "it leads elsewhere"
    link.unlink()
    link.mkdir()
    assert not starts(machine, "containerd"), "it is a directory"
    link.rmdir()
    link.symlink_to(STORE)
    assert starts(machine, "containerd")
    assert machine.show("ActiveState", "ovl-linkd.service") == "active", "pulled in"


def test_what_is_there_keeps_its_mode(machine: Machine) -> None:
    """A store that others share on purpose must not be shut by a restart."""
    machine.path(STORE).mkdir(parents=True, exist_ok=True)
    machine.path(STORE).chmod(0o755)
    machine.boot()
    machine.path(ROOT.path).symlink_to(STORE)
    assert starts(machine, "containerd")
    assert machine.path(STORE).stat().st_mode & 0o777 == 0o755


def test_a_restart_of_ours_never_restarts_containerd(machine: Machine) -> None:
    machine.boot()
    machine.path(ROOT.path).symlink_to(STORE)
    assert starts(machine, "containerd")
    before = machine.show("InvocationID", "containerd.service")

    machine.systemctl("restart", "ovl-linkd.service")
    machine.systemctl("stop", "ovl-linkd.service")

    assert machine.show("InvocationID", "containerd.service") == before
    assert machine.show("ActiveState", "containerd.service") == "active"


def test_any_path_arrives_as_it_is(machine: Machine) -> None:
    """Percent signs, dollars, quotes, backslashes, line ends, bytes that are no text."""
    there = os.listdir(machine.path("/srv"))  # what the machine itself has
    machine.boot()
    for link in ODD:
        machine.path(link.path).symlink_to(link.target)

    assert starts(machine, "odd")

    for link in ODD:
        assert machine.path(link.target).is_dir()
    assert sorted(os.listdir(machine.path("/srv"))) == sorted(
        [*there, "a b", "-p", os.path.basename(ODD[1].target)]
    )


def test_the_drop_ins_are_without_fault_for_systemd_analyze(machine: Machine) -> None:
    """It tells of unknown keys, paths that are refused, and escapes that are none."""
    places = ["/mnt", "/mnt/a b", '/srv/100%$"q"']
    init_drop_in.write(init_drop_in.for_daemon(places), str(machine.root))
    units = machine.root / "etc/systemd/system"
    done = subprocess.run(
        ["systemd-analyze", "--man=no", "--recursive-errors=yes", "verify"]
        + [str(units / f"{name}.service") for name in ("containerd", "odd", "ovl-linkd")],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_daemon_may_write_arrives_as_it_is(machine: Machine) -> None:
    """The sandbox lets it write just there; a directory that isn't there doesn't stop it."""
    places = ["/mnt/a b", '/srv/100%$"q"', "/srv/none"]
    sandbox = STAND_IN + "ProtectSystem=strict\n"
    for place in places[:2]:
        machine.path(place).mkdir(parents=True)
        sandbox += f"ExecStart=/usr/bin/touch {unit.argument(place + '/x')}\n"
    machine.write("/etc/systemd/system/ovl-linkd.service", sandbox)
    machine.boot()
    assert not starts(machine, "ovl-linkd")

    init_drop_in.write(init_drop_in.for_daemon(places), str(machine.path("/")))
    machine.systemctl("daemon-reload")

    assert starts(machine, "ovl-linkd")
    assert machine.path(f"{places[1]}/x").exists()
