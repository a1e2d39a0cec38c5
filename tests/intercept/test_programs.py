"""Programs of others under `ovl-linkd exec`: mount(8), systemd-nspawn, runc."""

import json
import os
import subprocess

import pytest

from tests.intercept.world import LOOK, World, mounts_at, seen
from tests.kernel.world import all_of, joined, look, make_layers
from tests.userland import Userland

pytestmark = pytest.mark.needs("root", "cc")


def test_mount_of_this_machine(world: World) -> None:
    """2.38 on Debian 12; without its helper, which would see to it itself."""
    ids, options = world.layers(128)
    world.run("mount", "-i", "-t", "overlay", "-o", os.fsdecode(options), "o", world.merged)
    assert look(os.fsencode(world.merged)) == all_of(ids)
    assert mounts_at(world.merged) == 1


def test_mount_of_debian_13(world: World, userland: Userland) -> None:
    """2.41 asks fsconfig(2) by itself, which takes 255 bytes: it is told not to."""
    ids, options = world.layers(128)
    command = ("mount", "-i", "-t", "overlay", "-o", os.fsdecode(options), "o", world.merged)
    assert userland.run(*command, code=None).returncode == 32

    world.run("chroot", userland.root, *command)

    assert look(os.fsencode(userland.path(world.merged))) == all_of(ids)


@pytest.mark.needs("systemd-nspawn")
@pytest.mark.parametrize("count", [48, 60])
def test_nspawn(world: World, count: int) -> None:
    """48 layers of containerd's length it mounts as 46 and says nothing; 60 fail."""
    ids = range(1_000_000 + count, 1_000_000, -1)
    layers = make_layers(ids, os.fsencode(world.snapshots))
    listed = ":".join(os.fsdecode(layer) for layer in reversed(layers))
    root = world.place / "root"
    for name in ("usr", "etc", "merged", "var", "run", "tmp", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    command = [
        *("systemd-nspawn", "--quiet", f"--directory={root}", "--bind-ro=/usr", "--as-pid2"),
        *("--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=off", "--timezone=off"),
        *(f"--overlay-ro={listed}:/merged", "sh", "-c", LOOK, "look", "/merged"),
    ]
    assert len(joined(layers)) > 4095
    alone = subprocess.run(command, capture_output=True, text=True, check=False)
    assert alone.stdout != seen(ids)

    done = world.run(*command)

    assert done.stdout == seen(ids)


@pytest.mark.needs("runc")
def test_runc(world: World) -> None:
    """Mounts what config.json lists, and has it clipped by the kernel."""
    ids, options = world.layers(128)
    bundle = world.place / "bundle"
    for name in ("usr", "merged", "proc"):
        (bundle / "rootfs" / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (bundle / "rootfs" / name).symlink_to(f"usr/{name}")
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    file = bundle / "config.json"
    config = json.loads(file.read_text())
    config["process"]["terminal"] = False
    config["process"]["args"] = ["sh", "-c", LOOK, "look", "/merged"]
    config["mounts"] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/usr", "type": "none", "source": "/usr", "options": ["rbind", "ro"]},
        {
            "destination": "/merged",
            "type": "overlay",
            "source": "overlay",
            "options": os.fsdecode(options).split(","),
        },
    ]
    del config["linux"]["resources"]
    file.write_text(json.dumps(config))
    runc = ("runc", "--root", world.place / "runc", "run", "--bundle", bundle, "test")

    done = world.run(*runc)

    assert done.stdout == seen(ids)
