"""A store with long paths, a link that covers it, and programs that run under `ovl-linkd exec`."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ovl_linkd import client, supervisors
from tests.kernel.world import all_of, joined, make_layers, make_upper
from tests.waiting import OF_A_PROGRAM, wait_until

TOP = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("ovl-linkd")

#: as long as containerd's own: 128 layers are some 10 KB of options
LONG = "var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"


class World:
    """Below PLACE, a directory on a tmpfs: ``snapshots``, the link ``short`` to it, ``merged``.

    The configuration ``config`` names the link; nobody keeps it but with_a_farm().
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.snapshots = place / LONG
        self.short = place / "l"
        self.merged = place / "merged"
        self.config = place / "config.yaml"
        self.socket = place / "sock"
        self.snapshots.mkdir(parents=True)
        self.merged.mkdir()
        self.short.symlink_to(self.snapshots)
        self._links: dict[str, tuple[Path, Path]] = {}
        self._farm = ""
        self.link("store", self.snapshots, self.short)

    def link(
        self, name: str, target: Path, path: Path | None = None, inside: Path = Path("/")
    ) -> None:
        """Make one more link, and have the configuration name it as it is seen INSIDE a root."""
        path = path or self.place / name
        if not path.is_symlink():
            path.symlink_to(target)
        self._links[name] = (Path("/") / path.relative_to(inside), target)
        self._configure()

    def _configure(self) -> None:
        lines = [
            f"  {name}: {{path: {path}, target: {target}, allow-unsafe-parent: true}}"
            for name, (path, target) in self._links.items()
        ]
        socket = f"control-socket: {self.socket}"
        self.config.write_text(
            "\n".join(["links:", "  ctrdl: null", *lines, self._farm, socket, ""])
        )

    @contextlib.contextmanager
    def with_a_farm(self, guard: str = "none") -> Iterator[Path]:
        """A daemon runs, and has a farm at the yielded path; nobody sets the flag of GUARD."""
        farm = self.place / "f"
        self._farm = f"farm: {{path: {farm}, guard: {guard}}}"
        self._configure()
        with subprocess.Popen([COMMAND, "run", "--config", self.config]) as daemon:
            try:
                wait_until(lambda: client.listens(str(self.socket)))
                yield farm
            finally:
                daemon.terminate()

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

    def command(self, *options: str, fault: str | None = None) -> list[str | Path]:
        """What has the words after it run under `ovl-linkd exec`, one with a FAULT if need be."""
        ours: list[str | Path] = [COMMAND, "exec"]
        if fault:
            ours = [sys.executable, "-m", "tests.intercept.launcher", fault]
        return [*ours, "--config", self.config, *options, "--"]

    def run(
        self,
        *command: str | Path,
        options: Sequence[str] = ("--verbose",),
        fault: str | None = None,
        code: int | None = 0,
    ) -> subprocess.CompletedProcess[str]:
        """Run COMMAND under `ovl-linkd exec`. AssertionError unless it ends with CODE."""
        done = subprocess.run(
            [*self.command(*options, fault=fault), *command],
            env=os.environ | {"FAULTS": str(self.place / "faults")},
            cwd=TOP,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=OF_A_PROGRAM,
            check=False,
        )
        said = f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        assert code in (None, done.returncode), said
        return done


def the_supervisor() -> supervisors.Supervisor:
    """The one that runs, as soon as there is one and no other: those of tests before may linger."""
    (ours,) = wait_until(
        lambda: running if len(running := supervisors.running()) == 1 else None,
        "one supervisor runs",
    )
    return ours


def children(pid: int) -> list[int]:
    """The children of process PID; none where it is gone."""
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []


def mounts_at(place: Path) -> int:
    """How many mounts there are at PLACE, on top of each other."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sum(line.split()[4] == str(place) for line in lines)


#: a script that prints what is mounted at $1, for who mounts where nobody else sees it
LOOK = 'cd "$1"/pair && cat $(ls | sort -n) && ls ../only | wc -l'


def seen(ids: range) -> str:
    """What LOOK prints where all of IDS are mounted, in their order."""
    return "".join(map(str, all_of(ids).order)) + f"{len(ids)}\n"
