"""Pods by the container runtime interface, which is what a kubelet calls: by `make soak` only.

With each release that `make soak` unpacks, in containerd's configuration of that release's version.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.containerd import images, pod
from tests.system.containerd.conftest import ARCHIVE
from tests.system.containerd.images import LOOK, seen
from tests.system.containerd.node import CONFIG, SHORT, UNIT, Node
from tests.system.machine import TOP

pytestmark = pytest.mark.needs("root", "systemd-nspawn", "runc")

INTERFACE = TOP / "build/cri"
PAUSE = images.name(44)  # all that it has to do is to be there
RUNTIME = "/usr/local/bin/runc-without-cpu"

# A pod has a share of the cpu whatever one asks for, and the test's cgroup no such controller.
WITHOUT_CPU = """\
#!/usr/bin/python3 -I
import json, os, sys
if "--bundle" in sys.argv:
    path = sys.argv[sys.argv.index("--bundle") + 1] + "/config.json"
    config = json.load(open(path))
    config["linux"]["resources"].pop("cpu", None)
    json.dump(config, open(path, "w"))
os.execvp("runc", ["runc", *sys.argv[1:]])
"""
VERSION_2 = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
options.BinaryName = "{RUNTIME}"
"""
VERSION_3 = f"""\
version = 3
[plugins.'io.containerd.cri.v1.images']
pinned_images.sandbox = '{PAUSE}'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
options.BinaryName = '{RUNTIME}'
"""


def configuration(release: Path) -> str:
    """containerd's, without a word on root_path."""
    program = release / "usr/bin/containerd"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return VERSION_3 if "/v2 2." in said else VERSION_2


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interface, for Python."""
    directory = tmp_path_factory.mktemp("stubs")
    pod.generate(INTERFACE / pod.PROTO, directory)
    return directory


@pytest.fixture
def kubernetes(node: Node, release: Path) -> Node:
    """A node that is up and has the images where a kubelet's containers look for them."""
    machine = node.machine
    machine.write(RUNTIME, WITHOUT_CPU)
    machine.path(RUNTIME).chmod(0o755)
    machine.write(CONFIG, configuration(release))
    machine.boot()
    node.namespace = "k8s.io"
    node.ctr = ("ctr", "--namespace", node.namespace)
    node.call("image", "import", ARCHIVE)
    return node


@contextmanager
def running(node: Node, stubs: Path, layers: int) -> Iterator[str]:
    """A pod whose container has an image of so many LAYERS and sees them all; its id."""
    socket = node.machine.path("/run/containerd/containerd.sock")
    command = (stubs, socket, images.name(layers), "sh", "-c", LOOK)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.system.containerd.pod", *command],
        cwd=TOP,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        told = json.loads(process.stdout.readline())
        assert told["said"] == seen(layers)
        yield told["container"]
        process.stdin.close()
        assert process.wait() == 0


def test_a_pod_of_128_layers_is_mounted_by_the_link(kubernetes: Node, stubs: Path) -> None:
    """The fragment that `init` prints suits the file, of whichever version it is."""
    machine = kubernetes.machine
    fragment = machine.run("ovl-linkd", "init", "--containerd").stdout.partition("# /etc/sys")[0]
    machine.write(CONFIG, machine.path(CONFIG).read_text() + fragment)
    machine.systemctl("restart", UNIT)
    with running(kubernetes, stubs, 128) as container:
        assert kubernetes.lower(container) == [
            f"{SHORT}/snapshots/{number}/fs" for number in range(128, 0, -1)
        ]
    with running(kubernetes, stubs, 200):
        said = machine.run("ovl-linkd", "doctor", code=None).stdout
    assert "root_path is the kept link ctrd" in said
    assert "rootfs" not in said, "none of them is taken for one that was cut"


def test_below_exec_it_runs_them_as_well(kubernetes: Node, stubs: Path) -> None:
    """It has what it needs by itself, and is not disturbed; by the link neither."""
    machine = kubernetes.machine
    drop_in = (TOP / "systemd/containerd-exec.conf.example").read_text()
    drop_in = drop_in.replace("/usr/bin/ovl-linkd", "/usr/local/bin/ovl-linkd")
    machine.write(f"/etc/systemd/system/{UNIT}.d/exec.conf", drop_in)
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", UNIT)
    written = machine.path(CONFIG).read_text()
    with running(kubernetes, stubs, 200):
        pass
    # The table is called the same in both versions.
    link = f'[plugins."io.containerd.snapshotter.v1.overlayfs"]\nroot_path = "{SHORT}"\n'
    machine.write(CONFIG, written + link)
    machine.systemctl("restart", UNIT)
    with running(kubernetes, stubs, 200):
        status = json.loads(machine.run("ovl-linkd", "status", "--json", code=None).stdout)
    (one,) = [each for each in status["exec"] if each["command"] == ["/usr/bin/containerd"]]
    assert one["refused"] == 0
