"""mount.overlay in a booted systemd: `.mount` units that no mount(8) carries by itself.

`make install` was done with this machine's Python, which one of the systems no longer has: what
mounts at boot must not care.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.kernel.world import all_of, joined, look, make_layers
from tests.system.machine import LINK, TARGET, TOP, Machine

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

UNIT = """\
[Unit]
{unit}
[Mount]
What=overlay
Where={where}
Type=overlay
Options={options}
[Install]
WantedBy={wanted}
"""


@pytest.fixture(params=["debian12", "debian13"])
def machine(request: pytest.FixtureRequest, installed: Path, scratch: Path) -> Iterator[Machine]:
    """A machine that is off, has the helper switched on, and a disk of its own for layers."""
    made = Machine(installed, scratch, system=request.getfixturevalue(request.param))
    subprocess.run(
        ["make", "--silent", "install-mount-helper", f"DESTDIR={made.root}"],
        cwd=TOP,
        env={key: value for key, value in os.environ.items() if not key.startswith("MAKE")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    disk = made.root / TARGET[1:]
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "layers", disk], check=True)
    yield made
    if made.on:
        print(made.run("journalctl", "-q", "--no-pager", "-o", "short-precise", code=None).stdout)
    made.off()
    subprocess.run(["umount", disk], check=True)
    made.scrap()


def layers(machine: Machine, ids: Sequence[int], top: str = TARGET) -> bytes:
    """Make layers on the machine's disk; the option that names them, below TOP."""
    made = make_layers(ids, os.fsencode(machine.root) + os.fsencode(TARGET))
    here = os.fsencode(machine.root / TARGET[1:])
    return joined([os.fsencode(top) + layer.removeprefix(here) for layer in made])


def write(machine: Machine, name: str, options: bytes, wanted: str, unit: str = "") -> None:
    """A unit that mounts OPTIONS at /mnt/NAME."""
    (machine.root / "mnt" / name).mkdir(parents=True)
    text = UNIT.format(where=f"/mnt/{name}", options=options.decode(), wanted=wanted, unit=unit)
    machine.write(f"/etc/systemd/system/mnt-{name}.mount", text)
    machine.enable(f"mnt-{name}.mount")


def test_500_layers_at_boot_and_200_before_local_fs_by_a_kept_link(machine: Machine) -> None:
    """The one is mounted by whatever there is; the other waits for the early links alone."""
    ids = range(999, 499, -1)
    write(machine, "late", layers(machine, ids), "multi-user.target")
    early = layers(machine, ids[:240], LINK)
    assert len(early) > 4095
    write(machine, "early", early, "local-fs.target", "Before=local-fs.target")
    machine.enable("ovl-linkd-links.service")

    machine.boot()

    assert machine.journal("-g", "ordering cycle") == ""
    for name, count in (("late", 500), ("early", 240)):
        assert machine.show("ActiveState", f"mnt-{name}.mount") == "active"
        assert look(os.fsencode(machine.path(f"/mnt/{name}"))) == all_of(ids[:count])
    table = machine.path("/proc/1/mountinfo").read_text()
    assert table.count(f"lowerdir+={LINK}/") == 240
    assert max(map(len, table.splitlines())) < 65_000


def test_a_unit_that_fails_tells_the_journal_why(machine: Machine) -> None:
    """systemd says "status=32", and mount(8) "wrong fs type, bad option, bad superblock"."""
    options = layers(machine, range(100, 200)).replace(b"/142/fs", b"/242/fs")
    write(machine, "late", options, "multi-user.target")
    machine.boot()
    assert machine.show("ActiveState", "mnt-late.mount") == "failed"
    said = machine.journal("-u", "mnt-late.mount")
    assert f"lower layer 43 of 100 does not exist: {TARGET}/242/fs" in said


def test_small_overlays_at_boot_need_no_python(machine: Machine) -> None:
    """As on a system that is half upgraded, and must come up to be mended."""
    for path in (machine.root / "usr/bin").glob("python3*"):
        path.unlink()
    write(machine, "small", layers(machine, range(2), "/run/ctrdl"), "local-fs.target")
    machine.enable("ovl-linkd-links.service")
    write(machine, "late", layers(machine, range(100, 200)), "multi-user.target")
    machine.boot()
    assert machine.show("ActiveState", "mnt-small.mount") == "active"
    assert machine.show("ActiveState", "mnt-late.mount") == "failed"
    assert "needs Python for them" in machine.journal("-u", "mnt-late.mount")
