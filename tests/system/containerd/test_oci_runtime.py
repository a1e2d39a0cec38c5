"""containerd with `ovl-linkd-runc` as its runtime: what a container's own spec mounts."""

import json
import os
import shutil

import pytest

from tests.bundles import LOOK, seen
from tests.kernel.world import all_of, make_layers
from tests.system.containerd.images import UNPACKED
from tests.system.containerd.node import SHORT, STORE, Node

pytestmark = pytest.mark.needs("root", "systemd-nspawn", "runc")

RUNTIME = "/usr/local/bin/ovl-linkd-runc"
IDS = range(228, 100, -1)


def test_128_layers_of_a_spec_are_there_by_the_kept_link(node: Node) -> None:
    """containerd hands the spec on as it is; runc alone clips it, and can't start."""
    machine = node.machine
    machine.boot()
    make_layers(IDS, os.fsencode(machine.path(f"{STORE}/mine")))
    layers = ":".join(f"{STORE}/mine/{number}/fs" for number in IDS)
    rootfs = machine.path("/run/rootfs")
    (rootfs / "bin").mkdir(parents=True)
    shutil.copy(UNPACKED / "usr/bin/busybox", rootfs / "bin/busybox")
    for name in ("sh", "ls", "sort", "tr", "cat"):
        (rootfs / "bin" / name).symlink_to("busybox")
    spec = json.loads(machine.run("ctr", "oci", "spec").stdout)
    spec["root"] = {"path": "/run/rootfs"}
    spec["process"] |= {
        "terminal": False,
        "args": ["sh", "-c", f"exec >/said/x; {LOOK}"],
        "env": ["PATH=/bin"],
    }
    machine.path("/run/said").mkdir()
    spec["mounts"] += [
        {"destination": "/said", "type": "bind", "source": "/run/said", "options": ["bind"]},
        {
            "destination": "/m",
            "type": "overlay",
            "source": "overlay",
            "options": ["ro", f"lowerdir={layers}"],
        },
    ]
    machine.write("/run/spec.json", json.dumps(spec))
    words = ("run", "--rm", "--config", "/run/spec.json")

    machine.run("ctr", *words, "--runc-binary", RUNTIME, "mine")
    said = machine.path("/run/said/x")
    assert seen(said.read_text()) == all_of(IDS)
    said.unlink()
    alone = machine.run("ctr", *words, "alone", code=None)
    assert alone.returncode != 0 or seen(said.read_text()) != all_of(IDS)

    long = spec["mounts"][-1]["options"][1].replace("/mine/", "/no/link/" + "x" * 60)
    spec["mounts"][-1]["options"][1] = long.replace(STORE, "/srv")
    machine.write("/run/spec.json", json.dumps(spec))
    refused = machine.run("ctr", *words, "--runc-binary", RUNTIME, "refused", code=1)
    assert "ovl-linkd-runc: " in refused.stderr
    assert "mount(2) takes 4,095" in refused.stderr
    assert SHORT not in refused.stderr
