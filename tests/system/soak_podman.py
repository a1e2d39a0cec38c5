"""Podman with `ovl-linkd-runc` as its runtime, over runc and over crun: by `make soak` only.

Debian's own, with the README's configuration; tests/helper/test_podman.py has its `mount_program`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.containerd import images
from tests.system.containerd.images import LOOK, seen
from tests.system.machine import TOP, Machine, with_a_disk
from tests.userland import put_podman

pytestmark = pytest.mark.needs("root", "systemd-nspawn", "runc", "crun")

LAYERS = 100
# The cgroup of a test has no controllers, its machine no network.
RUN = ("run", "--network=none", "--pids-limit=0")


@pytest.fixture
def machine(installed: Path, scratch: Path) -> Iterator[Machine]:
    """A machine that is up and has Podman, with an image in it."""
    made = with_a_disk(installed, scratch, "/var/lib/containers")
    put_podman(made.root)
    told = dict(re.findall(r"(?ms)^```toml\n\[(\w+)\]\n(.*?)^```", (TOP / "README.md").read_text()))
    for file, table in {"storage": "storage", "containers": "engine"}.items():
        made.write(f"/etc/containers/{file}.conf", f"[{table}]\n{told[table]}")
    images.write(made.path("/srv/image.tar"), LAYERS)
    made.enable("ovl-linkd")
    made.boot()
    podman(made, "load", "--quiet", "--input", "/srv/image.tar")
    yield made
    made.scrap()


def podman(machine: Machine, *words: str, before: tuple[str, ...] = ()) -> str:
    """What `podman WORDS` prints."""
    return machine.run(*before, "podman", "--cgroup-manager=cgroupfs", *words, timeout=300).stdout


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_podman_runs_containers_by_it(machine: Machine, runtime: str) -> None:
    before = ("env", f"OVL_LINKD_RUNTIME={runtime}")
    run = (*RUN, "--rm", images.name(LAYERS), "sh", "-c", LOOK)
    assert podman(machine, *run, before=before) == seen(LAYERS)
    podman(machine, *RUN, "--detach", "--name=one", images.name(LAYERS), before=before)
    look = ("exec", "one", "sh", "-c", LOOK)
    assert podman(machine, *look, before=before) == seen(LAYERS)
    podman(machine, "stop", "--time=1", "one", before=before)
    podman(machine, "rm", "one", before=before)
    assert podman(machine, "ps", "--all", "--quiet") == ""


def test_an_error_of_the_runtime_is_told(machine: Machine) -> None:
    """Which Podman reads from the log, if it knows that that is JSON."""
    run = (*RUN, "--rm", images.name(LAYERS), "/no/such/program")
    done = machine.run("podman", "--cgroup-manager=cgroupfs", *run, code=127)
    assert "/no/such/program" in done.stderr
    assert '"level"' not in done.stderr
    assert "time=" not in done.stderr.splitlines()[-1]
