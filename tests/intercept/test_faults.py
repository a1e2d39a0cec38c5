"""A supervisor in which something goes wrong: no caller hangs, and none gets a wrong answer."""

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest

from ovl_linkd import supervisors
from tests.intercept.world import TOP, World, children, mounts_at, the_supervisor
from tests.kernel.world import all_of, look
from tests.waiting import PATIENCE, wait_until

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
    assert "answered blindly, after 2 s" in done.stderr


def test_a_call_is_not_as_old_as_the_one_before_it(world: World, mounter: Path) -> None:
    """On a busy machine a worker may not run again for a while once the kernel gave it a call."""
    ids, options = world.layers(128)
    words = (mounter, "plainly", world.file(options), world.merged)
    done = world.run(*words, fault="be_held_up_after_receiving")
    assert done.stdout == "mount: 0\n"
    assert look(os.fsencode(world.merged)) == all_of(ids)


def test_who_is_given_up_has_not_lost_the_next_call(world: World, mounter: Path) -> None:
    """Its caller would be blocked for good."""
    ids, options = world.layers(128)
    script = '"$0" plainly "$1" "$2"; "$0" plainly "$1" "$2"'
    words = ("sh", "-c", script, mounter, world.file(options), world.merged)
    done = world.run(*words, fault="finish_while_being_given_up")
    assert done.stdout == f"mount: {errno.EINVAL}\nmount: 0\n"
    assert look(os.fsencode(world.merged)) == all_of(ids)


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


MOUNTER = """
while read word; do
    "$0" plainly "$1" "$2/merged" && umount "$2/merged" && echo "$word" >"$2/answer"
done
"""


def descriptors(of: supervisors.Supervisor) -> int:
    """How many OF has open."""
    return len(os.listdir(f"/proc/{of.pid}/fd"))


def heir_of(killed: supervisors.Supervisor) -> supervisors.Supervisor:
    """The one that runs in the place of KILLED, which may run on for a moment, and have counted."""

    def another() -> supervisors.Supervisor | None:
        found = [each for each in supervisors.running() if each.pid != killed.pid]
        return found[0] if found else None

    return wait_until(another, "an heir")


def test_a_guard_that_is_killed_has_an_heir(world: World, mounter: Path) -> None:
    """And that one, too. Only if both are killed at once nobody looks after the workers."""
    _, options = world.layers(128)
    file = world.file(options)
    answer = world.place / "answer"
    words = [*world.command("--verbose"), "sh", "-c", MOUNTER, mounter, file, world.place]
    said = world.place / "said"
    with (
        open(said, "wb") as stderr,
        subprocess.Popen(words, stdin=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdin
        ours = the_supervisor()
        at_first = 0
        for number in range(4):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            wait_until(answer.exists)
            answer.unlink()
            at_first = at_first or descriptors(ours)  # with the one that it may be writing to
            os.kill(ours.pid, signal.SIGKILL)
            ours = heir_of(ours)
        wait_until(lambda: descriptors(ours) <= at_first)
        pids = [ours.pid, *children(ours.pid)]
        process.stdin.close()
    assert len(pids) >= 3
    wait_until(lambda: all(supervisors.birth(pid) is None for pid in pids))
    assert not Path(supervisors.DIRECTORY).exists()
    assert said.read_text().count("its deputy has taken its place") == 4


def test_the_heir_finishes_what_the_guard_s_workers_had(world: World, mounter: Path) -> None:
    """A call that waits when the guard dies, and whose worker dies with it."""
    ids, options = world.layers(128)
    file = world.file(options)
    faults = world.place / "faults"
    faults.touch()
    words = world.command(fault="dawdle_once")
    with subprocess.Popen(
        [*words, mounter, "plainly", file, world.merged],
        env=os.environ | {"FAULTS": str(faults)},
        cwd=TOP,
    ) as process:
        wait_until(lambda: faults.stat().st_size == 1)
        os.kill(the_supervisor().pid, signal.SIGKILL)
        assert process.wait(PATIENCE) == 0
    assert look(os.fsencode(world.merged)) == all_of(ids)


def test_a_guard_that_fails_has_an_heir_as_well(world: World, mounter: Path) -> None:
    ids, options = world.layers(128)
    script = '"$0" plainly "$1" "$2"; umount "$2"; "$0" plainly "$1" "$2"'
    words = ("sh", "-c", script, mounter, world.file(options), world.merged)
    done = world.run(*words, fault="break_the_guard")
    assert done.stdout == "mount: 0\nmount: 0\n"
    assert look(os.fsencode(world.merged)) == all_of(ids)
    assert "the guard ends: RuntimeError: a bug" in done.stderr
    assert "its deputy has taken its place" in done.stderr


def test_a_command_does_not_wait_for_a_guard_that_died_first(world: World) -> None:
    done = world.run("echo", "no", fault="die_before_the_command_begins", code=125)
    assert done.stdout == ""
    assert "no supervisor: it died" in done.stderr


@pytest.mark.parametrize("name", ["merged", "a\x1bb", os.fsdecode(b"\xff")])
def test_nothing_is_imported_once_calls_are_answered(
    world: World, mounter: Path, name: str
) -> None:
    """An upgrade may have taken it away by then, Python's own library included."""
    _, options = world.layers(128)
    target = world.place / name
    target.mkdir(exist_ok=True)
    fine, wrong = world.place / "fine", world.place / "wrong"
    fine.write_bytes(options)
    wrong.write_bytes(options.replace(b"/io.", b"/no."))
    script = '"$0" plainly "$1" "$3"; "$0" plainly "$2" "$3"; mount -t tmpfs -o size=1m x "$3"'
    with world.with_a_farm():
        done = world.run(
            *("sh", "-c", script, mounter, fine, wrong, target),
            fault="tell_of_imports",
        )
    assert done.stdout == f"mount: 0\nmount: {errno.EINVAL}\n"
    assert "no layer that can be leased" in done.stderr
    faults = world.place / "faults"
    assert not faults.exists() or faults.read_text() == ""
