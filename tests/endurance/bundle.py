"""A bundle for runc whose container counts the layers of its overlay, run by our wrapper."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.endurance.crew import Failed
from tests.userland import TOP

_BUSYBOX = TOP / "build/containerd/usr/bin/busybox"
_WRAPPER = Path(sys.executable).with_name("ovl-linkd-runc")


def make(directory: Path, options: bytes) -> None:
    """Write the bundle; its container mounts an overlay with OPTIONS and lists its layers."""
    (directory / "rootfs/bin").mkdir(parents=True)
    shutil.copy(_BUSYBOX, directory / "rootfs/bin")
    listed = os.fsdecode(options).split(",")
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "cwd": "/",
            "args": ["/bin/busybox", "ls", "/m/only"],
            "user": {"uid": 0, "gid": 0},
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/m", "type": "overlay", "source": "overlay", "options": listed},
        ],
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
    }
    (directory / "config.json").write_text(json.dumps(config))


def run(directory: Path, layers: int) -> None:
    """Run it once. Raises Failed, and RuntimeError where there are other layers than LAYERS."""
    command: list[str | Path] = [
        _WRAPPER,
        "--root",
        directory / "state",
        "run",
        "--bundle",
        directory,
        "soak",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        # All that stands before it, the options among it, is another text each time.
        raise Failed(done.stderr.strip().rpartition(": ")[2] or f"{done.returncode}")
    if set(map(int, done.stdout.split())) != set(range(layers)):
        raise RuntimeError("other layers were mounted than were told")
