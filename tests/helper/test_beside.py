"""What others on the machine notice of hundreds of layers: Go programs read every line."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from ovl_linkd.overlay.context import Context
from tests.helper.world import Machine, lower
from tests.userland import TOP

pytestmark = pytest.mark.needs("root", "runc")

BUSYBOX = TOP / "build/containerd/usr/bin/busybox"  # by `make setup-test`


@pytest.fixture
def bundle(scratch: Path) -> Path:
    """A container that says "started" and needs nothing of the machine."""
    made = scratch / "bundle"
    (made / "rootfs/bin").mkdir(parents=True)
    (made / "rootfs/bin/busybox").write_bytes(BUSYBOX.read_bytes())
    (made / "rootfs/bin/busybox").chmod(0o755)
    subprocess.run(["runc", "spec"], cwd=made, check=True)
    config = json.loads((made / "config.json").read_text())
    config["process"] |= {"args": ["/bin/busybox", "echo", "started"], "terminal": False}
    del config["process"]["rlimits"], config["hostname"]
    config["linux"]["namespaces"] = [{"type": "pid"}, {"type": "mount"}]
    (made / "config.json").write_text(json.dumps(config))
    return made


def start(bundle: Path) -> str:
    """What `runc run` of BUNDLE says."""
    state = ("--root", bundle / "state")
    done = subprocess.run(
        ["runc", *state, "run", "--bundle", bundle, "test"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("size", [85, 140])
def test_containers_start_beside_500_layers(size: int, machine: Machine, bundle: Path) -> None:
    """With paths of 140 bytes, 75,000 bytes of them: such a line stops every `runc run`."""
    ids = range(999, 499, -1)
    layers = machine.layers(ids, machine.store(size))
    machine.mounted(lower(layers))
    machine.sees(ids)
    assert len(machine.line()) < 65_000
    assert start(bundle) == "started\n"


@pytest.mark.needs("lowerdir+")
def test_a_line_that_is_too_long_does_stop_them(machine: Machine, bundle: Path) -> None:
    """What the 65,000 bytes are for; the same layers, by their true names."""
    layers = machine.layers(range(500), machine.store(140))
    with Context() as context:
        for layer in layers:
            context.set_string(b"lowerdir+", layer)
        context.create()
        context.mount(os.fsencode(machine.target))
    assert "token too long" in start(bundle)
