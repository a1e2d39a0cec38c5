"""Bundles for OCI runtimes, whose containers tell what layers they see."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.intercept.world import World
from tests.kernel.world import View
from tests.userland import TOP
from tests.waiting import OF_A_PROGRAM

BUSYBOX = TOP / "build/containerd/usr/bin/busybox"
# Lists what the layers of `make_layers` hold, as `look` does from outside.
LOOK = (
    "cd /m; ls only | sort -n | tr '\\n' ' '; echo;"
    "for p in $(ls pair | sort -n); do cat pair/$p; echo -n ' '; done"
)


def seen(said: str) -> View:
    """What LOOK has said."""
    ids, order = (list(map(int, line.split())) for line in said.splitlines())
    return View(ids, order, [])


class Bundle:
    """A bundle whose container looks at its overlay, and the wrapper that runs it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.directory = world.place / "bundle"
        (self.directory / "rootfs/bin").mkdir(parents=True)
        (self.directory / "rootfs/dev").mkdir()
        shutil.copy(BUSYBOX, self.directory / "rootfs/bin/busybox")
        self.program = world.place / "ovl-linkd-runc"
        start = "from ovl_linkd.oci_runtime.wrapper import script; script()"
        self.program.write_text(
            f"#!/bin/sh\nPYTHONPATH={TOP}/daemon exec {sys.executable} -c '{start}' \"$@\"\n"
        )
        self.program.chmod(0o755)
        self.state = world.place / "state"
        self.more: list[str] = []

    def config(
        self,
        options: Sequence[str],
        args: Sequence[str] = (),
        mounts: Sequence[object] = (),
        **more: Any,
    ) -> bytes:
        """Write config.json: an overlay with OPTIONS at /m, and LOOK or ARGS; the text.

        MOUNTS and MORE, members of the whole, come behind.
        """
        mounts = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/m", "type": "overlay", "source": "overlay", "options": options},
            *mounts,
        ]
        config = {
            "ociVersion": "1.0.2",
            "process": {
                "cwd": "/",
                "args": [*(args or ("/bin/busybox", "sh", "-c", LOOK))],
                "env": ["PATH=/bin"],
                "user": {"uid": 0, "gid": 0},
            },
            "root": {"path": "rootfs"},
            "mounts": mounts,
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
        } | more
        text = json.dumps(config, indent=1).encode()
        (self.directory / "config.json").write_bytes(text)
        return text

    def long_options(self, count: int = 128) -> tuple[range, list[str]]:
        """Make COUNT layers; their ids, the topmost first, and the options that name them all."""
        ids, options = self.world.layers(count)
        return ids, options.decode().split(",")

    def run(
        self,
        *words: str,
        program: str | Path | None = None,
        cwd: str | None = None,
        umask: int = -1,
        pass_fds: Sequence[int] = (),
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run it; without a PROGRAM the wrapper. What stays behind may keep its output open."""
        command = [program or self.program, "--root", self.state, *self.more, *words]
        with (
            (self.world.place / "out").open("w+") as out,
            (self.world.place / "err").open("w+") as err,
        ):
            done = subprocess.run(
                command,
                env=os.environ | environment,
                cwd=cwd or self.directory,
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                umask=umask,
                pass_fds=pass_fds,
                timeout=OF_A_PROGRAM,
                check=False,
            )
        said = [(self.world.place / name).read_text() for name in ("out", "err")]
        return subprocess.CompletedProcess(done.args, done.returncode, *said)
