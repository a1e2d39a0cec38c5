"""What the README and the manual page tell of mount.overlay, run as it stands."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helper.world import USUAL, Machine, escaped, lower
from tests.kernel.world import make_upper
from tests.manuals import README, told, typed
from tests.userland import TOP

pytestmark = pytest.mark.needs("root")


def test_mount_and_fstab_as_told(machine: Machine) -> None:
    """The package's way to switch it on, then mounts of 300 layers by either."""
    ids = range(300)
    store = machine.store()
    layers = machine.layers(ids, store)
    upper, work = make_upper(1000, store)
    install, *lines = told("mount(8), fstab and .mount units")
    assert install == "make install-mount-helper"
    in_page, example = typed("mount.overlay.8")
    shutil.copy2(TOP / "daemon/mount-helper/mount.overlay", machine.library)
    for switch_on in (*re.findall(r"`(ln -s [^`]*)`", README), in_page):
        machine.userland.path("/usr/sbin/mount.overlay").unlink()
        assert machine.run("sh", "-c", switch_on).returncode == 0

    other = machine.place / "other"
    other.mkdir()
    machine.userland.path(other).mkdir(exist_ok=True)
    fields = (b"overlay", os.fsencode(other), b"overlay", lower(layers), b"0 0\n")
    machine.userland.path("/etc/fstab").write_bytes(b" ".join(fields))
    values = {
        "LAYERS": b":".join(map(escaped, layers)),
        "UPPER": escaped(upper, b"\\,"),
        "WORK": escaped(work, b"\\,"),
        "TARGET": os.fsencode(machine.target),
        "OTHER_TARGET": os.fsencode(other),
    }
    given = [b"%b=%b" % (name.encode(), value) for name, value in values.items()]
    assert example == f"{lines[0]}\n"
    for line in lines:
        done = machine.run("env", *given, "sh", "-eu", "-c", line)
        assert (done.returncode, done.stderr) == (0, "")
    machine.sees(ids)
    machine.run("umount", machine.target)
    machine.run("mount", "--move", other, machine.target)
    machine.sees(ids)


@pytest.mark.needs("systemd-nspawn")
def test_nspawn_with_128_layers_by_link(scratch: Path, debian13: Path) -> None:
    """By their true names 47 are too many for its own options, and 48 become 46 without a word."""
    machine = scratch / "layers"
    store = os.fsencode(machine) + b"/" + b"x" * (USUAL - len("/NNN/fs") - len(str(machine)) - 1)
    layers = []
    for number in range(128):
        layer = b"%b/%d/fs" % (store, 100 + number)
        os.makedirs(layer)
        (Path(os.fsdecode(layer)) / f"f{number}").touch()
        layers.append(layer)
    link = Path("/run/k")
    link.symlink_to(os.fsdecode(store))
    try:
        by_link = b":".join(b"/run/k/%b" % os.path.relpath(layer, store) for layer in layers)
        (line,) = told("systemd-nspawn")
        words = ("--quiet", "--register=no", "--keep-unit", "--volatile=overlay", "--pipe")
        line = line.replace("systemd-nspawn ", f"systemd-nspawn {shlex.join(words)} ")
        done = subprocess.run(
            ["sh", "-eu", "-c", line],
            env=os.environ | {"ROOT": str(debian13), "LAYERS_BY_LINK": os.fsdecode(by_link)},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    finally:
        link.unlink()
    assert sorted(done.stdout.split()) == sorted(f"f{number}" for number in range(128)), done.stderr
