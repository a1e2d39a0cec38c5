"""Links in every condition, things beside them that are nobody's but their owner's, and a look."""

import json
import os
import shutil
import stat
from pathlib import Path
from typing import NamedTuple

from tests.waiting import wait_until

RUN = Path("/run/ovl-linkd")

#: what a daemon of the standard configuration keeps in RUN
OURS = frozenset(("config.yaml", "control.sock", "control.sock.lock", "published.json", "m.prom"))

# Beside the link, beside its temporary name, or one letter away from it.
_DECOYS = ("link2", ".link.ovl-linkd2", ".link.ovl-linkd.new", ".link.ovl-link", ".link2.ovl-linkd")
_DECOYS_IN_RUN = ("published.json.new2", "published.json.bak", "m.prom.new2", "control.sock2")


class Thing(NamedTuple):
    """One name on disk, as far as anybody could notice a change."""

    inode: int
    mode: int
    uid: int
    content: str


class Scene:
    """A directory for each condition that a link may be found in; the configuration names all."""

    def __init__(self, top: Path, resync: str = "1h") -> None:
        self.top = top
        self._resync = resync  # an hour: the safety net must not be what a test sees at work
        self.target = top / "t"
        top.mkdir(exist_ok=True)
        self.target.mkdir()
        self.links = {
            name: top / name / "link"
            for name in ("missing", "wrong", "right", "blocked", "stale", "displaced")
        }
        for path in self.links.values():
            path.parent.mkdir()
        self.healed = {"missing", "wrong", "right", "stale", "parentless"}
        self.targets: dict[str, Path] = {}  # of those that don't lead to `target`
        self.links["parentless"] = top / "parentless/d/link"
        self.links["waiting"] = top / "waiting/no/where/link"
        (top / "parentless").mkdir()
        (top / "waiting").mkdir()
        self.wrong("wrong")
        self.links["right"].symlink_to(self.target)
        self.links["blocked"].write_text("precious")
        # What a daemon leaves that is killed between two calls of a replacement.
        self.wrong("stale")
        (top / "stale/.link.ovl-linkd").symlink_to(self.target)
        self.links["displaced"].symlink_to(self.target)
        (top / "displaced/.link.ovl-linkd").write_text("precious too")
        RUN.mkdir(exist_ok=True)
        self.decoys = [top / name / decoy for name in os.listdir(top) for decoy in _DECOYS]
        self.decoys += [RUN / decoy for decoy in _DECOYS_IN_RUN]
        for number, decoy in enumerate(self.decoys):
            _plant(decoy, number % 3)
        self.write()
        self.planted = look(*self.decoys)

    def write(self) -> None:
        """Write the configuration of all links."""
        whole = {
            "metrics-file": str(RUN / "m.prom"),
            "resync-interval": self._resync,
            "links": {"ctrdl": None}
            | {
                name: {"path": str(path), "target": self._target(name)}
                for name, path in self.links.items()
            },
        }
        (RUN / "config.yaml").write_text(json.dumps(whole))

    def change(self) -> None:
        """Have one link come, one lead elsewhere from now on, and one be kept no more."""
        left = self.links.pop("right")
        self.healed = self.healed - {"right"} | {"new"}
        self.links["new"] = self.top / "missing/new"
        (self.top / "t2").mkdir()
        self.targets["missing"] = self.top / "t2"
        self.decoys.append(left)
        self.planted |= look(left)
        self.write()

    def wrong(self, name: str) -> None:
        """Have the link NAME lead elsewhere."""
        self.links[name].unlink(missing_ok=True)
        self.links[name].symlink_to("/elsewhere")

    def right(self, *names: str) -> bool:
        """Whether the links NAMES are as wanted."""
        return all(says(self.links[name]) == self._target(name) for name in names)

    def _target(self, name: str) -> str:
        return str(self.targets.get(name, self.target))

    def check(self) -> None:
        """All is as it should be: links right, nothing half done, nothing else touched."""
        assert self.right(*self.healed), {name: says(self.links[name]) for name in self.healed}
        assert self.links["blocked"].read_text() == "precious"
        assert self.links["displaced"].read_text() == "precious too"
        assert look(*self.decoys) == self.planted, "what isn't ours was touched"
        parents = {path.parent for path in self.links.values()}
        known = {*self.links.values(), *self.decoys, *parents}
        for directory in self.top.iterdir():
            strange = {path for path in directory.iterdir() if path not in known}
            assert not strange, "left behind"
        # The daemon runs: what it writes anew has another name for a moment.
        wait_until(lambda: set(os.listdir(RUN)) - set(_DECOYS_IN_RUN) <= OURS, "nothing is left")

    def remove(self) -> None:
        """Take all of it away."""
        shutil.rmtree(self.top)
        shutil.rmtree(RUN)


def look(*paths: Path) -> dict[Path, Thing]:
    """PATHS, and what is below them, as they are."""
    found = {}
    for path in paths:
        found[path] = _look(path)
        if stat.S_ISDIR(found[path].mode):
            found |= look(*sorted(path.iterdir()))
    return found


def _plant(path: Path, kind: int) -> None:
    if kind == 0:
        path.write_text("somebody's")
    elif kind == 1:
        path.symlink_to("/somebody/s")
    else:
        path.mkdir()
        (path / "file").write_text("somebody's")


def says(path: Path) -> str | None:
    """What the symlink at PATH says, None where there is none."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def _look(path: Path) -> Thing:
    status = os.lstat(path)
    content = ""
    if stat.S_ISREG(status.st_mode):
        content = path.read_text()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    return Thing(status.st_ino, status.st_mode, status.st_uid, content)
