"""What others on the machine may try, and what they must not get.

An attacker that acts between two system calls needs luck; here he acts before each of them in
turn, as often as it takes to try them all.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ovl_linkd import client
from tests.daemon.world import RENAME_EXCHANGE, Daemon, command, renameat2
from tests.faults.forked import Forked
from tests.faults.policies import told
from tests.faults.scene import RUN, look
from tests.faults.supervised import Call
from tests.flooding import flooded
from tests.others import NOBODY, as_user
from tests.soak import SOAK
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.needs("root")

#: what is done before a call that names a path; and what before the next one, if anything
Trick = Callable[["Place", str], Callable[[], object] | None]


class Place:
    """A directory of the attacker's in which a link is kept; two of root's that he is after.

    In one everything has the names that the daemon uses in his; in the other one a link could be
    made, and a file has its temporary name.
    """

    def __init__(self, top: Path) -> None:
        self.theirs, self.victim, self.target = top / "theirs", top / "victim", top / "t"
        self.free = top / "free"
        for directory in (self.theirs, self.victim, self.free, self.target):
            directory.mkdir()
        (self.free / ".link.ovl-linkd").write_text("root's")
        (self.theirs / "p").mkdir()
        for name in ("link", ".link.ovl-linkd", "published.json", "control.sock", "m.prom"):
            for victim in (name, f"{name}.new", f"{name}.lock"):
                (self.victim / victim).write_text("root's")
                (self.victim / victim).chmod(0o600)
        self.before = look(self.victim, self.free)

    def unharmed(self) -> None:
        """No file of root's was written, removed, or given another mode; none is new there."""
        assert look(self.victim, self.free) == self.before


def plant_symlink(place: Place, path: str) -> None:
    """What the call names becomes a symlink to a file of root's with that name."""
    with suppress(OSError):
        os.rename(path, place.theirs / f"stolen{time.monotonic_ns()}")
    with suppress(OSError):
        os.symlink(place.victim / os.path.basename(path), path)


def plant_hard_link(place: Place, path: str) -> None:
    """Or that file itself, by another name."""
    with suppress(OSError):
        os.rename(path, place.theirs / f"stolen{time.monotonic_ns()}")
    with suppress(OSError):
        os.link(place.victim / os.path.basename(path), path)


def exchange(place: Place, path: str) -> None:
    """What the call names changes places with a symlink."""
    lure = place.theirs / f"lure{time.monotonic_ns()}"
    lure.symlink_to(place.victim / os.path.basename(path))
    with suppress(OSError):
        renameat2(lure, path, RENAME_EXCHANGE)


def lead_elsewhere(place: Place, _: str) -> Callable[[], object]:
    """A symlink to root's takes the place of the directory; before the next call it is back."""
    parent = place.theirs / "p"
    away = parent.rename(place.theirs / f"p{time.monotonic_ns()}")
    parent.symlink_to(place.free)

    def undo() -> None:
        parent.unlink()
        away.rename(parent)

    return undo


class Attack:
    """The policy that plays TRICK before call number ``at`` of those that name a path below."""

    def __init__(self, at: int, trick: Trick, place: Place, below: Path) -> None:
        self._left = at
        self._trick = trick
        self._place = place
        self._below = f"{below}/"
        self._next: Callable[[], object] | None = None
        self.call: Call | None = None

    def __call__(self, call: Call) -> None:
        if call.forked or not call.path.startswith(self._below):
            return
        if self._next:
            self._next()
            self._next = None
        if self._left == 0:
            self.call = call
            self._next = self._trick(self._place, call.path)
        self._left -= 1

    def __str__(self) -> str:
        return f"{self._trick.__name__} before {self.call}"


def attacks(trick: Trick, scratch: Path, below: str) -> Iterator[tuple[Attack, Place]]:
    """One before each call, until one is not met any more."""
    for at in range(1000):
        top = scratch / "s"
        top.mkdir()
        place = Place(top)
        attack = Attack(at, trick, place, top / below if below else RUN)
        try:
            with told(attack):
                yield attack, place
        finally:
            shutil.rmtree(top)
        if attack.call is None:
            assert at > 2
            return


@contextmanager
def running(scratch: Path, place: Place, parent: Path) -> Iterator[Forked]:
    """A daemon that keeps a link in PARENT, which the configuration says is unsafe, and allowed."""
    directory = scratch / "d"
    directory.mkdir(exist_ok=True)
    RUN.mkdir(exist_ok=True)
    link = {"path": f"{parent}/link", "target": str(place.target), "allow-unsafe-parent": True}
    whole = {"metrics-file": str(RUN / "m.prom"), "links": {"ctrdl": None, "one": link}}
    (RUN / "config.yaml").write_text(json.dumps(whole))
    daemon = Forked(directory)
    try:
        daemon.start_by_default()
        yield daemon
        assert not daemon.dead
    finally:
        daemon.kill()
        shutil.rmtree(RUN)


def settle(daemon: Forked) -> None:
    """Let it do what it has to."""
    with suppress(client.NotRunning):  # its socket may have been taken away
        wait_until(lambda: repaired(daemon), "an answer")
    assert not daemon.dead


def repaired(daemon: Forked) -> bool:
    """Whether it says so; not where its socket is made anew just then or taken away."""
    try:
        daemon.call("Repair")
    except client.NoAnswer:
        return False
    return True


@pytest.mark.parametrize("trick", [plant_symlink, plant_hard_link, exchange, lead_elsewhere])
def test_nothing_is_reached_by_way_of_a_directory_that_is_declared_unsafe(
    scratch: Path, trick: Trick
) -> None:
    """Whoever owns an ancestor of the link, too, gets what he could do himself, and no more."""
    for attack, place in attacks(trick, scratch, "theirs"):
        parent = place.theirs / "p"
        with running(scratch, place, parent) as daemon:
            os.chown(place.theirs, NOBODY, NOBODY)
            os.chown(parent, NOBODY, NOBODY)
            daemon.rule(attack)
            with daemon.frozen():
                (parent / "link").unlink()
                (parent / "link").symlink_to("/elsewhere")
            settle(daemon)
            place.unharmed()


@pytest.mark.parametrize("trick", [plant_symlink, plant_hard_link, exchange])
def test_nothing_is_reached_by_way_of_the_daemon_s_own_files(scratch: Path, trick: Trick) -> None:
    """Their directory was root's when the configuration was read, and became everybody's."""
    for attack, place in attacks(trick, scratch, ""):
        with running(scratch, place, place.theirs / "p") as daemon:
            RUN.chmod(0o777)
            daemon.rule(attack)
            with daemon.frozen():
                for name in ("published.json", "control.sock"):
                    (RUN / name).unlink()
            wait_until(lambda: (RUN / "published.json").exists() or attack.call, "at work")  # noqa: B023
            settle(daemon)
            place.unharmed()


# --- a race in earnest -----------------------------------------------------------------------


def race(theirs: str, victim: str, free: str, seconds: float) -> None:
    """What a process of NOBODY's does, as fast as it can, and a hundred times at least."""
    rounds, end = 0, time.monotonic() + seconds
    parent = f"{theirs}/p"
    while rounds < 100 or time.monotonic() < end:
        rounds += 1
        for name in ("link", ".link.ovl-linkd"):
            with suppress(OSError):
                os.unlink(f"{parent}/{name}")
            with suppress(OSError):
                os.symlink(f"{victim}/{name}", f"{parent}/{name}")
        os.rename(parent, f"{parent}2")
        os.symlink(free, parent)
        os.unlink(parent)
        os.rename(f"{parent}2", parent)
        for name in ("published.json", "published.json.new", "control.sock", "control.sock.new"):
            with suppress(OSError):
                os.unlink(RUN / name)
            with suppress(OSError):
                os.symlink(f"{victim}/{name}", RUN / name)


def test_a_race_is_never_won(scratch: Path) -> None:
    (scratch / "s").mkdir()
    place = Place(scratch / "s")
    with running(scratch, place, place.theirs / "p") as daemon:
        daemon.kill()
        daemon.rule(None)
        daemon.start_by_default()
        os.chown(place.theirs, NOBODY, NOBODY)
        os.chown(place.theirs / "p", NOBODY, NOBODY)
        RUN.chmod(0o777)
        words = str(place.theirs), str(place.victim), str(place.free), 60.0 if SOAK else 1.5
        as_user(NOBODY, lambda: race(*words))
        place.unharmed()


# --- what is shown ---------------------------------------------------------------------------


def test_what_a_symlink_says_steers_no_terminal(daemon: Daemon, scratch: Path) -> None:
    """Whoever may write in the directory writes what the administrator reads."""
    (scratch / "t").mkdir()
    daemon.write({"one": (scratch / "link", scratch / "t")})
    daemon.start()
    with daemon.frozen():
        scratch.chmod(0o777)
        (scratch / "link").unlink()
        os.symlink(b"/\x1b]0;pwned\x07\x1b[2J\n<0>all is lost\xff", os.fsencode(scratch / "link"))
    daemon.until_state("one", "blocked")
    for words in (["status"], ["status", "--json"]):
        run = command(*words, "--config", daemon.config)
        assert "pwned" in run.stdout
        assert all(character.isprintable() or character == "\n" for character in run.stdout)
        assert "\n<0>" not in run.stdout
    assert "\x1b" not in daemon.log()
    assert "\n<0>" not in daemon.log()
    scratch.chmod(0o755)


def test_a_target_that_is_a_maze_is_not_walked(daemon: Daemon, scratch: Path) -> None:
    """Whoever owns the snapshots may make them deep, or a circle: nobody lists what is in there."""
    target = scratch / "t"
    target.mkdir()
    deep = os.open(target, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.symlink("/", "circle", dir_fd=deep)
    os.close(deep)
    (target / "circle").symlink_to(target)
    (target / "a\n\x1b[2J").mkdir()
    daemon.write({"one": (scratch / "link", target)})
    daemon.start()
    with daemon.repairing("one", "missing"):
        (scratch / "link").unlink()
    assert command("status", "--config", daemon.config).returncode == 0
    subprocess.run(["rm", "-r", target], check=True)  # shutil goes no deeper than Python's stack


# --- a flood ---------------------------------------------------------------------------------


def test_a_flood_at_the_socket_delays_no_repair_for_long(daemon: Daemon, scratch: Path) -> None:
    """Each repair comes; how much later is printed, and measured by `make bench`."""
    (scratch / "t").mkdir()
    path = scratch / "link"
    daemon.write({"one": (path, scratch / "t")})
    daemon.start(python=[sys.executable])
    quiet = [_repair_time(path) for _ in range(100)]
    with flooded(daemon.socket):
        end = time.monotonic() + (30.0 if SOAK else 1.5)
        late = []
        while time.monotonic() < end:
            late.append(_repair_time(path))
            time.sleep(0.001)
        still = daemon.call("Status")["links"][0]
        assert still["state"] == "ok", "root is let in all the same"
    for name, times in (("quiet", quiet), ("flooded", late)):
        times.sort()
        p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
        print(f"{name}: {len(times)} repairs, p50 {p50 * 1e6:.0f} µs, p99 {p99 * 1e6:.0f} µs")


def _repair_time(path: Path) -> float:
    """Seconds from unlink(2) until the link is back."""
    os.unlink(path)
    began = time.perf_counter()
    while not os.path.lexists(path):
        assert time.perf_counter() - began < PATIENCE, "never back"
        time.sleep(0.0001)
    return time.perf_counter() - began
