"""Killed before each system call in turn, of whatever it does; the next start makes it good.

`make test` counts the calls that may leave something behind, `make soak` every call.
"""

import os
import shutil
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from ovl_linkd import cli, config_files
from ovl_linkd.commands import tmpfiles
from ovl_linkd.config import load
from tests.faults.forked import Forked
from tests.faults.policies import DEADLY, Death, as_sandboxed, deaths, told
from tests.faults.scene import Scene
from tests.faults.supervised import Call, Supervised
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root")


class Stage(NamedTuple):
    """A scene, and the daemon that is to die in it."""

    scene: Scene
    daemon: Forked

    def die(self, death: Death, act: Callable[[], None], done: Callable[[], bool]) -> None:
        """Let the running daemon die of what it does after ACT, or until that is DONE."""
        with self.daemon.frozen():
            act()
            self.daemon.rule(death)
        wait_until(lambda: self.daemon.dead or done(), f"done, or dead at {death.call}")
        assert self.daemon.settled() or death.call
        self.daemon.kill()

    def recover(self) -> None:
        """Start after a death, and see that nothing of it is left."""
        self.daemon.rule(as_sandboxed)
        self.daemon.start_by_default()
        self.scene.check()
        self.daemon.stop()
        self.scene.check()


@contextmanager
def staged(scratch: Path, death: object, asked: Collection[str] | None = DEADLY) -> Iterator[Stage]:
    """A stage of its own for one DEATH; afterwards all of it is taken away."""
    directory = scratch / "d"
    directory.mkdir(exist_ok=True)
    stage = Stage(Scene(scratch / "s"), Forked(directory, asked=asked))
    try:
        with told(death):
            yield stage
    finally:
        stage.daemon.kill()
        stage.scene.remove()


def test_at_each_call_of_a_start(scratch: Path) -> None:
    for death in deaths():
        with staged(scratch, death) as stage:
            stage.daemon.rule(death)
            assert stage.daemon.begin() or death.call, stage.daemon.log()
            stage.daemon.kill()
            stage.recover()


def test_a_start_runs_no_other_program(scratch: Path) -> None:
    """A library ran ldconfig, or a compiler, to learn the name of the C library."""
    calls: list[str] = []
    with staged(scratch, "nothing", asked=None) as stage:
        stage.daemon.rule(lambda call: calls.append(call.name))
        stage.daemon.start_by_default()
        stage.daemon.stop()
    assert "inotify_add_watch" in calls
    assert "execve" not in calls


def test_a_daemon_that_is_asked_about_fewer_calls_dies_at_none_the_less(scratch: Path) -> None:
    """The kernel lets pass what no death counts; were it more, nobody would miss those deaths."""
    made = []
    for asked in (None, DEADLY):
        calls: set[str] = set()
        made.append(calls)

        def record(call: Call, calls: set[str] = calls) -> int | None:
            if call.changes:
                calls.add(call.name)
            return as_sandboxed(call)

        with staged(scratch, "nothing", asked) as stage:
            stage.daemon.rule(record)
            stage.daemon.start_by_default()
            stage.daemon.stop()
    assert made[0] == made[1] != set()


def test_at_each_call_of_a_repair(scratch: Path) -> None:
    names = ("missing", "wrong", "parentless")
    for death in deaths():
        with staged(scratch, death) as stage:
            scene = stage.scene
            stage.daemon.start_by_default()

            def act(scene: Scene = scene) -> None:
                scene.links["missing"].unlink()
                scene.wrong("wrong")
                shutil.rmtree(scene.links["parentless"].parent)

            stage.die(death, act, lambda scene=scene: scene.right(*names))  # type: ignore[misc]
            stage.recover()


def test_at_each_call_of_a_reload(scratch: Path) -> None:
    for death in deaths():
        with staged(scratch, death) as stage:
            scene, daemon = stage
            daemon.start_by_default()

            def act(scene: Scene = scene, daemon: Forked = daemon) -> None:
                scene.change()
                os.kill(daemon.pid, signal.SIGHUP)

            stage.die(death, act, lambda scene=scene: scene.right("new"))  # type: ignore[misc]
            stage.recover()


def test_at_each_call_of_a_stop(scratch: Path) -> None:
    for death in deaths():
        with staged(scratch, death) as stage:
            daemon = stage.daemon
            daemon.start_by_default()
            daemon.rule(death)
            daemon.terminate()
            assert daemon.end() == (-signal.SIGKILL if death.call else 0)
            stage.scene.check()
            stage.recover()


# --- commands --------------------------------------------------------------------------------


def test_at_each_call_of_an_offline_repair(scratch: Path) -> None:
    """By hand, while the daemon is down; and again, by the daemon."""

    def repair() -> int:
        return cli.main(["repair", "--offline"])

    for death in deaths():
        with staged(scratch, death) as stage:
            code = Supervised(repair, str(scratch / "log"), death, DEADLY).wait()
            assert code == (-signal.SIGKILL if death.call else 1), "1, since some are blocked"
            stage.recover()


@pytest.mark.parametrize("before", [None, f"{tmpfiles.MARK}\nL /run/old - - - - /old\n"])
def test_at_each_call_of_writing_what_the_next_boot_makes(
    scratch: Path, before: str | None
) -> None:
    """A boot must find the old lines or the new ones, whole."""
    written = f"{tmpfiles.MARK}\n{tmpfiles.lines(load(None, ()).links)}"
    directory = scratch / "tmpfiles.d"
    path = directory / tmpfiles.NAME

    def write() -> int:
        vars(tmpfiles).update(DIRECTORY=str(directory), PACKAGED=())
        vars(config_files).update(ROOTS=())  # the packaged default is what counts
        return cli.main(["tmpfiles", "--write"])

    for death in deaths():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        decoy = directory / f"{tmpfiles.NAME}.new2"
        decoy.write_text("somebody's")
        if before:
            path.write_text(before)
        Supervised(write, str(scratch / "log"), death, DEADLY).wait()
        with told(death):
            left = path.read_text() if path.exists() else None
            assert left in (before, written)
            assert Supervised(write, str(scratch / "log"), None).wait() == 0
            assert path.read_text() == written
            assert sorted(os.listdir(directory)) == [path.name, decoy.name]
            assert decoy.read_text() == "somebody's"
