"""A supervisor in which something goes wrong: no caller hangs, and none gets a wrong answer."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from tests.intercept.world import World, mounts_at
from tests.kernel.world import all_of, look

pytestmark = pytest.mark.needs("root", "cc")


@pytest.mark.parametrize(
    "fault",
    [
        "die_after_receiving",
        "die_before_reading",
        "die_before_looking",
        "die_before_writing",
        "die_in_the_middle_of_writing",
        "die_after_writing",
        "die_after_answering",
    ],
)
def test_a_worker_may_die_at_any_moment(world: World, mounter: Path, fault: str) -> None:
    """Its caller would be blocked for good; half of a text would be mounted as what it says."""
    ids, options = world.layers(128)

    done = world.run(mounter, "plainly", world.file(options), world.merged, fault=fault)

    assert done.stdout == "mount: 0\n"
    assert look(os.fsencode(world.merged)) == all_of(ids)
    assert mounts_at(world.merged) == 1


def test_a_call_that_kills_each_worker_is_answered_all_the_same(
    world: World, mounter: Path
) -> None:
    _, options = world.layers(60)
    file = world.file(options)
    alone = subprocess.run(
        [mounter, "plainly", file, world.merged], capture_output=True, text=True, check=False
    )

    done = world.run(mounter, "plainly", file, world.merged, fault="die_of_every_call")

    assert done.stdout == alone.stdout
    assert "answered blindly, as it kills who looks at it" in done.stderr


def test_a_bug_is_said_and_the_call_refused(world: World, mounter: Path) -> None:
    _, options = world.layers(60)
    done = world.run(mounter, "plainly", world.file(options), world.merged, fault="raise_an_error")
    assert done.stdout == f"mount: {errno.EINVAL}\n"
    assert "RuntimeError: a bug" in done.stderr


def test_nobody_waits_for_a_file_system_that_does_not_answer(world: World, mounter: Path) -> None:
    """It is known by then that the kernel would cut: better no mount than a wrong one."""
    _, options = world.layers(60)
    done = world.run(mounter, "plainly", world.file(options), world.merged, fault="dawdle")
    assert done.stdout == f"mount: {errno.EINVAL}\n"
    assert "answered blindly, after 0.3 s" in done.stderr


def test_many_do_not_queue_behind_slow_ones(world: World, mounter: Path) -> None:
    """Three callers for which a file system never answers, and one that gets what it wants."""
    ids, options = world.layers(128)
    file = world.file(options)
    (world.place / "other").mkdir()
    (world.place / "faults").touch()
    script = """
    for i in 1 2 3; do "$0" plainly "$1" "$2/other" & all="$all $!"; done
    until [ $(wc -c <"$2/faults") = 3 ]; do sleep 0.01; done
    "$0" plainly "$1" "$2/merged"
    kill -KILL $all
    """

    done = world.run("sh", "-c", script, mounter, file, world.place, fault="dawdle_three_times")

    assert done.stdout.splitlines()[0] == "mount: 0"
    assert look(os.fsencode(world.merged)) == all_of(ids)
    assert mounts_at(world.place / "other") == 0
