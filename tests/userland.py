"""The small Debians that `make setup-test` makes, to run what the machine itself may lack.

In 13 mount(8) from 2.39 on, varlinkctl, Python 3.13; in both nothing but what Debian itself brings.
The kernel is the machine's, the programs are not.
"""

import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.waiting import OF_A_PROGRAM

TOP = Path(__file__).parents[1]
DEBIAN_12, DEBIAN_13 = TOP / "build/debian-12", TOP / "build/debian-13"

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_SHARED = ("/proc", "/dev", "/sys", "/run", str(TOP))


class Userland:
    """The system below ``lower`` under a layer that is thrown away, entered by chroot.

    /run (so every scratch directory), /dev and the checkout lie in it where they lie outside. It
    is mounted below ``place``, an empty directory on a tmpfs, in this process's mount namespace;
    whoever owns ``place`` takes off what is mounted there, as the fixture ``scratch`` does.
    """

    def __init__(self, lower: Path, place: Path) -> None:
        self.root = place / "root"
        for path in (place / "upper", place / "work", self.root):
            path.mkdir()
        layers = f"lowerdir={lower},upperdir={place}/upper,workdir={place}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "-", self.root], check=True)
        for shared in _SHARED:
            self.path(shared).mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--bind", shared, self.path(shared)], check=True)

    def path(self, inside: str | Path) -> Path:
        """INSIDE as it is seen from here; what was mounted inside is there, and only there."""
        return self.root / str(inside).lstrip("/")

    def run(
        self,
        *command: str | Path,
        code: int | None = 0,
        timeout: float = OF_A_PROGRAM,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run COMMAND inside. AssertionError, with all that it said, unless it ends with CODE."""
        done = subprocess.run(
            ["chroot", self.root, *command],
            env={"PATH": _PATH, "LANG": "C.UTF-8", **(environment or {})},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
        words = shlex.join(map(str, command))
        said = f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        assert code in (None, done.returncode), said
        return done


def put_podman(root: Path) -> None:
    """Have Podman in the system below ROOT: unpacked, where this machine has none of its own."""
    unpacked = TOP / "build/podman"
    if unpacked.exists():
        subprocess.run(["cp", "-a", unpacked / "etc", unpacked / "usr", root], check=True)
    else:
        assert shutil.which("podman"), "podman is unpacked by: make setup-test"
