"""A store with long paths, a link that covers it, and programs that run under `ovl-linkd exec`."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.kernel.world import View, joined, make_layers, make_upper

TOP = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("ovl-linkd")

#: as long as containerd's own: 128 layers are some 10 KB of options
_LONG = "var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"


class World:
    """Below PLACE, a directory on a tmpfs: ``snapshots``, the link ``short`` to it, ``merged``.

    The configuration ``config`` names the link; nobody keeps it.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.snapshots = place / _LONG
        self.short = place / "l"
        self.merged = place / "merged"
        self.config = place / "config.yaml"
        self.snapshots.mkdir(parents=True)
        self.merged.mkdir()
        self.short.symlink_to(self.snapshots)
        self.config.write_text(
            "links:\n  ctrdl: null\n"
            f"  store:\n    path: {self.short}\n    target: {self.snapshots}\n"
            f"control-socket: {place}/control.sock\n"
        )

    def layers(self, count: int, first: int = 100) -> tuple[range, bytes]:
        """Make COUNT layers; their ids, the topmost first, and the options that name them all."""
        ids = range(first + count, first, -1)
        upper, work = make_upper(first + count + 1, os.fsencode(self.snapshots))
        layers = joined(make_layers(ids, os.fsencode(self.snapshots)))
        return ids, b"index=off,workdir=%s,upperdir=%s,%s" % (work, upper, layers)

    def file(self, options: bytes) -> Path:
        """A file with OPTIONS."""
        file = self.place / "options"
        file.write_bytes(options)
        return file

    def run(
        self, *command: str | Path, options: Sequence[str] = ("--verbose",), code: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run COMMAND under `ovl-linkd exec`. AssertionError unless it ends with CODE."""
        done = subprocess.run(
            [COMMAND, "exec", "--config", self.config, *options, "--", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        assert code in (None, done.returncode), said
        return done


#: a command that prints what is mounted at its argument, for who mounts where nobody else sees it
LOOK = (
    *(sys.executable, "-c"),
    "import os, sys; from tests.kernel.world import look; print(*look(os.fsencode(sys.argv[1])))",
)


def seen(view: View) -> str:
    """What LOOK prints for VIEW."""
    return " ".join(map(str, view))
