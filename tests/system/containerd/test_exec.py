"""containerd as it was reported: one that knows neither root_path nor relative paths; and exec."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.manuals import told
from tests.system.conftest import install
from tests.system.containerd import images
from tests.system.containerd.conftest import ARCHIVE
from tests.system.containerd.images import LOOK, seen
from tests.system.containerd.node import LAYERS_SHORT, STORE, UNIT, Node, lower
from tests.system.machine import Machine
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "systemd-nspawn", "runc")

# What a container does that has containers of its own, with the link as it would have it.
LOWER = ":".join(f"{STORE}/snapshots/{number}/fs" for number in range(128, 0, -1))
MOUNTS = f"""
mkdir -p /run /m
ln -sfn {STORE}/snapshots {LAYERS_SHORT}
mount -t tmpfs tmpfs /m && umount /m
mount -t overlay -o lowerdir={LOWER} overlay /m
ls /m/tmp | wc -l; cat /m/pair/*
umount /m
"""


# No link, but a name of its own for each layer, which nobody can take away.
GUARDED = """\
links: {ctrdl: null}
farm: {path: /run/f, guard: append-only}
"""


@pytest.fixture
def wrapped(older_node: Node) -> Node:
    """A node that is up and has the images; containerd and its client run under exec."""
    return under_exec(older_node)


def under_exec(older_node: Node) -> Node:
    machine = older_node.machine
    machine.boot()
    for line in told("containerd before 1.5"):
        machine.run("sh", "-c", line)
    older_node.ctr = ("ovl-linkd", "exec", "--", "ctr")
    older_node.call("image", "import", ARCHIVE)
    return older_node


def supervisors(machine: Machine) -> list[int]:
    """Those that run for containerd, not for its client."""
    said = json.loads(machine.run("ovl-linkd", "status", "--json", code=None).stdout)["exec"]
    return [each["pid"] for each in said if each["command"] == ["/usr/bin/containerd"]]


def test_without_help_it_runs_no_image_of_128_layers(older_node: Node) -> None:
    """What the kernel cuts off names a layer that isn't there; with other paths it might be."""
    machine = older_node.machine
    machine.boot()
    older_node.call("image", "import", ARCHIVE)
    words = ("run", "--rm", "--cpu-shares", "0", images.name(128), "c", "sh", "-c", LOOK)
    done = machine.run("ctr", *words, code=1)
    assert "failed to mount" in done.stderr
    assert "no such file or directory" in done.stderr
    said = machine.run("ovl-linkd", "doctor", code=1).stdout
    assert "containerd 1.1.2 mounts 51 layers, and pulls no image that has more" in said
    assert f"under which {LAYERS_SHORT} makes room for 223" in said


def test_under_exec_it_pulls_and_runs_them_unchanged(wrapped: Node) -> None:
    wrapped.push_and_pull(128, 200)
    for layers in (128, 200):
        assert wrapped.shell(layers, LOOK) == seen(layers)
        wrapped.start(layers, f"c{layers}")
        made = lower(wrapped.call("snapshots", "mounts", "/x", f"c{layers}"))
        assert wrapped.lower(f"c{layers}", expand=True) == made
        short = [layer.replace(f"{STORE}/snapshots", LAYERS_SHORT) for layer in made]
        assert wrapped.lower(f"c{layers}") == short
    assert "successfully booted" in wrapped.machine.journal("-t", "containerd")
    said = wrapped.machine.run("ovl-linkd", "doctor", code=None).stdout
    assert "containerd 1.1.2 is started by ovl-linkd exec" in said
    assert "rootfs" not in said, "none of them is taken for one that was cut"


def test_what_was_started_before_can_still_mount(wrapped: Node) -> None:
    """It is under the filter of a containerd that is gone: without an answer, ENOSYS for ever."""
    machine = wrapped.machine
    store = f"type=bind,src={STORE},dst={STORE},options=rbind:ro"
    wrapped.start(128, "old", "--cap-add", "CAP_SYS_ADMIN", "--mount", store)
    assert wrapped.shell_in("old", MOUNTS) == seen(128)
    (old,) = supervisors(machine)

    machine.systemctl("restart", UNIT)
    wait_until(lambda: len(supervisors(machine)) == 2)
    assert wrapped.shell_in("old", MOUNTS) == seen(128)

    machine.run("pkill", "-KILL", "--parent", str(old))
    assert wrapped.shell_in("old", MOUNTS) == seen(128)

    install(machine.root)
    machine.systemctl("daemon-reload")
    for unit in ("ovl-linkd", UNIT):
        machine.systemctl("restart", unit)
    assert old in supervisors(machine)
    assert wrapped.shell_in("old", MOUNTS) == seen(128)
    assert wrapped.shell(200, LOOK) == seen(200)

    wrapped.stop("old")
    wait_until(lambda: old not in supervisors(machine))
    wait_until(lambda: len(supervisors(machine)) == 1)


def test_not_even_a_cleaner_that_never_rests_fails_a_run_by_a_guarded_farm(
    older_node: Node,
) -> None:
    """A link that is removed is back in a moment; of what can't be removed there is none."""
    machine = older_node.machine
    machine.write("/etc/ovl-linkd/config.yaml", GUARDED)
    machine.enable("ovl-linkd-guard")
    under_exec(older_node)
    machine.write("/etc/cleaner.sh", "while :; do rm -f /run/f/*; done\n")
    machine.run("systemd-run", "--quiet", "--unit=cleaner", "sh", "/etc/cleaner.sh")
    names = [f"c{number}" for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda name: older_node.shell(200, LOOK, name), names))
    assert said == [seen(200)] * 20
    machine.systemctl("stop", "cleaner")
