"""What `rewrite` makes of fstab and units, read and mounted by systemd itself."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovl_linkd.formats import mount8, mount_unit
from ovl_linkd.formats.judging import BY_VALUE, Means
from ovl_linkd.overlay import options
from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.overlay.shorten import Prefix
from tests.kernel.world import all_of, joined, look, make_layers
from tests.manuals import told
from tests.system.machine import LINK, TARGET, Machine

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

LINKS = [Prefix("ctrdl", os.fsencode(TARGET), os.fsencode(LINK))]
IDS = range(127, 0, -1)  # the topmost first, as containerd numbers them
FORCE = b"Environment=LIBMOUNT_FORCE_MOUNT2=always\n"
UNIT = b"""\
[Unit]
RequiresMountsFor=%b
[Mount]
What=overlay
Where=/mnt/unit
Type=overlay
Options=%b
[Install]
WantedBy=local-fs.target
"""


@pytest.fixture
def store(machine: Machine) -> Iterator[Path]:
    """The target of the link, on a file system that is there at the boot and takes any layer."""
    path = machine.root / TARGET[1:]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "layers", path], check=True)
    for name in ("unit", "fstab"):
        (machine.root / "mnt" / name).mkdir()
    yield path
    machine.off()
    subprocess.run(["umount", path], check=True)


def given_lowerdir(machine: Machine, point: str) -> bytes:
    """The lowerdir of the mount at POINT, as the kernel was given it."""
    lines = machine.path("/proc/1/mountinfo").read_bytes().splitlines()
    (line,) = [line for line in lines if line.split()[4] == os.fsencode(point)]
    text = line.split(b" - ")[1].split(b" ")[2]
    text = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), text)
    return dict(options.parse(text).items())[b"lowerdir"] or b""


def test_what_the_readme_tells_mounts_128_layers_of_a_unit_and_some_of_fstab_at_boot(
    machine: Machine, store: Path
) -> None:
    """/run is empty then, and the daemon starts long after: the early links carry both."""
    layers = make_layers(IDS, os.fsencode(store))
    inside = [os.fsencode(TARGET) + layer.removeprefix(os.fsencode(store)) for layer in layers]
    unit = UNIT % (os.fsencode(TARGET), joined(inside))
    # A unit can tell mount(8) to take more than 255 bytes, a line of fstab can't.
    few = 10 if mount8.takes_by_value() else 40
    lines = b"# by hand\noverlay  /mnt/fstab  overlay  noauto,ro,%b 0 0\n" % joined(inside[:few])
    machine.boot()
    write(machine, unit)
    machine.path("/etc/fstab").write_bytes(lines)

    preview, *edits, undone, shown = told("Options in lines and files")
    (line,) = [machine.run("sh", "-c", preview).stdout.encode()]
    assert machine.path("/etc/fstab").read_bytes() == lines
    for edit in edits:
        assert machine.run("sh", "-c", edit).stderr == ""
    assert machine.path("/etc/fstab").read_bytes() == line
    assert line == lines.replace(os.fsencode(TARGET), os.fsencode(LINK))
    expanded = machine.run("sh", "-c", undone).stdout.encode()
    assert expanded.replace(FORCE, b"") == unit
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "mnt-unit.mount")
    (mounted,) = [x for x in machine.run("sh", "-c", shown).stdout.splitlines() if "/unit" in x]
    assert joined(inside).decode() in mounted
    machine.path("/etc/fstab").write_bytes(line.replace(b"noauto,", b""))
    machine.off()
    machine.enable("mnt-unit.mount")

    machine.boot()

    assert machine.journal("-g", "ordering cycle") == ""
    for name, ids in (("unit", IDS), ("fstab", IDS[:few])):
        assert machine.show("ActiveState", f"mnt-{name}.mount") == "active"
        assert look(os.fsencode(machine.path(f"/mnt/{name}"))) == all_of(ids)
        assert os.fsencode(LINK) in given_lowerdir(machine, f"/mnt/{name}")


def test_systemd_has_mount_be_given_what_we_read(machine: Machine, store: Path) -> None:
    """Specifiers, escapes and all: the file says one thing, and mount(8) is given another."""
    names = [
        b"plain",
        b"per%cent",
        b"a b",
        rb"co\:lon",
        rb"com\,ma",
        rb"back\\slash",
        rb"two\\\\of",
    ]
    layers = [b"%b/%b" % (os.fsencode(TARGET), name) for name in names]
    paths = [re.sub(rb"\\(.)", rb"\1", layer) for layer in layers]
    for path in paths:
        os.mkdir(os.fsencode(store) + path.removeprefix(os.fsencode(TARGET)))
    # The unit is made by expanding, so that every special byte has gone through our escapes.
    short = [Prefix(f"s{at}", path, b"/s/%d" % at) for at, path in enumerate(paths)]
    named = b"ro,lowerdir=" + b":".join(prefix.short for prefix in short)
    unit = mount_unit.expand(UNIT % (os.fsencode(TARGET), named), short)
    write(machine, unit.replace(b"[Mount]\n", b"[Mount]\n" + FORCE))
    machine.boot()
    machine.systemctl("start", "mnt-unit.mount")
    assert given_lowerdir(machine, "/mnt/unit") == b":".join(layers)

    # A backslash at the end of a line becomes a blank, and mount(8) refuses that, too.
    machine.systemctl("stop", "mnt-unit.mount")
    unit = UNIT % (os.fsencode(TARGET), b"ro,\\\nlowerdir=" + b":".join(layers[:1] * 2))
    with pytest.raises(options.Malformed, match="a blank stands before lowerdir="):
        mount_unit.rewrite(unit, Means(LINKS, of_this_kernel()))
    write(machine, unit)
    machine.systemctl("daemon-reload")
    machine.run("systemctl", "start", "mnt-unit.mount", code=1)

    # What a mount(8) that takes 255 bytes a value is told reaches it.
    long = b"ro,lowerdir=" + b":".join(layers[:1] * 20)
    made = mount_unit.rewrite(UNIT % (b"/", long), Means(LINKS, of_this_kernel(), way=BY_VALUE))
    write(machine, made.text)
    machine.run("mv", "/usr/bin/mount", "/usr/bin/mount.real")
    machine.write("/usr/bin/mount", '#!/bin/sh\nenv >/run/env\nexec mount.real "$@"\n')
    machine.run("chmod", "755", "/usr/bin/mount")
    machine.systemctl("daemon-reload")
    machine.run("systemctl", "start", "mnt-unit.mount", code=None)
    assert "LIBMOUNT_FORCE_MOUNT2=always" in machine.path("/run/env").read_text().splitlines()


def write(machine: Machine, unit: bytes) -> None:
    machine.path("/etc/systemd/system/mnt-unit.mount").write_bytes(unit)
