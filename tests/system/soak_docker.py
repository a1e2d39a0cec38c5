"""Docker with `ovl-linkd-runc` as its runtime, and below `ovl-linkd exec`: by `make soak` only.

Debian's own, of 12, of 13 and of what follows; `make soak` unpacks them. Docker itself puts no
overlay into a bundle. It mounts one where a volume of its `local` driver says so, with mount(2).
"""

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import LOOK, seen
from tests.kernel.world import all_of, make_layers
from tests.system.containerd.images import UNPACKED
from tests.system.machine import LINK, TARGET, TOP, Machine, with_a_disk
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "systemd-nspawn", "runc")

IDS = range(228, 100, -1)
LONG = "lowerdir=" + ":".join(f"{TARGET}/{number}/fs" for number in IDS)
# No network: a machine of its own has none to filter or to bridge.
DOCKERD = (
    *("dockerd", "--bridge=none", "--iptables=false", "--storage-driver=overlay2"),
    "--exec-opt=native.cgroupdriver=cgroupfs",
    *("--add-runtime=ours=/usr/local/bin/ovl-linkd-runc", "--default-runtime=ours"),
)


@pytest.fixture(params=["bookworm", "trixie", "sid"])
def machine(request: pytest.FixtureRequest, installed: Path, scratch: Path) -> Iterator[Machine]:
    """A machine that is up, with the layers, and with an image of busybox to be made."""
    made = with_a_disk(installed, scratch, "/var/lib/docker", f"--bind={scratch}/layers:{TARGET}")
    make_layers(IDS, os.fsencode(scratch / "layers"))
    unpacked = TOP / f"build/containers-{request.param}"
    for program in [*unpacked.glob("usr/bin/*"), *unpacked.glob("usr/sbin/*")]:
        made.have(program, "/usr/local/bin")
    image = made.path("/srv/image")
    (image / "bin").mkdir(parents=True)
    for name in ("m", "run"):
        (image / name).mkdir()
    (image / "bin/busybox").write_bytes((UNPACKED / "usr/bin/busybox").read_bytes())
    (image / "bin/busybox").chmod(0o755)
    for name in ("cat", "ls", "sh", "sleep", "sort", "tr"):
        (image / "bin" / name).symlink_to("busybox")
    subprocess.run(["tar", "-cf", made.path("/srv/image.tar"), "-C", image, "."], check=True)
    made.enable("ovl-linkd")
    made.boot()
    yield made
    made.scrap()


def start(machine: Machine, *before: str) -> None:
    """Start Docker, with BEFORE in front of it, and wait until it is ready."""
    machine.run(
        "systemd-run",
        "--quiet",
        "--collect",
        "--unit=dockerd",
        "-p",
        "Type=notify",
        *before,
        *DOCKERD,
    )


def docker(machine: Machine, line: str, code: int = 0) -> str:
    """What `docker LINE` prints."""
    done = machine.run("docker", *shlex.split(line), code=code)
    return done.stdout + done.stderr


def test_docker_runs_containers_by_it(machine: Machine) -> None:
    """An image from a tar file, and what becomes of its containers."""
    start(machine)
    assert docker(machine, "info --format '{{.DefaultRuntime}} {{.Driver}}'") == "ours overlay2\n"
    docker(machine, "import /srv/image.tar box")
    assert docker(machine, "run --rm --network none box /bin/sh -c 'echo it runs'") == "it runs\n"
    docker(machine, "run --detach --name one --network none box /bin/sleep 1000")
    assert docker(machine, "exec one /bin/sh -c 'echo and executes'") == "and executes\n"
    docker(machine, "stop --time 1 one")
    docker(machine, "start one")
    docker(machine, "rm --force one")
    assert docker(machine, "ps --all --quiet") == ""


def test_below_exec_a_volume_of_128_layers_is_mounted(machine: Machine) -> None:
    """A volume that Docker mounts, for a container that is started by our runtime."""
    start(machine)
    docker(machine, "import /srv/image.tar box")
    create = f"volume create --opt type=overlay --opt device=overlay --opt o={LONG} long"
    docker(machine, create)
    run = f"--network none --volume long:/m:ro box /bin/sh -c {shlex.quote(LOOK)}"
    alone = machine.run("docker", *shlex.split(f"run --rm {run}"), code=None)
    assert alone.returncode or seen(alone.stdout) != all_of(IDS), "the kernel cuts no more"

    machine.systemctl("stop", "dockerd")
    start(machine, "ovl-linkd", "exec", "--")
    assert seen(docker(machine, f"run --rm {run}")) == all_of(IDS)
    docker(
        machine, "run --detach --name one --network none --volume long:/m:ro box /bin/sleep 1000"
    )
    mounted = machine.path("/proc/1/mountinfo").read_text()
    assert f"lowerdir={LINK}/228/fs:{LINK}/227/fs:" in mounted
    looked = docker(machine, f"exec one /bin/sh -c {shlex.quote(LOOK)}")
    assert seen(looked) == all_of(IDS)
    assert "below ovl-linkd exec: dockerd" in machine.run("ovl-linkd", "doctor", code=None).stdout

    docker(machine, "rm --force one")
    docker(machine, "volume rm long")
    machine.systemctl("stop", "dockerd")
    wait_until(lambda: "exec dockerd" not in machine.run("ovl-linkd", "status", code=None).stdout)
