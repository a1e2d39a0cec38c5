"""A few seconds of what `make soak` does for ten minutes: mounts by every way in, and cleaners."""

import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.endurance.crew import REST, Failed, Record, working
from tests.endurance.report import judged, moments
from tests.waiting import wait_until

TOP = Path(__file__).parents[1]


@pytest.mark.needs("root", "systemd-tmpfiles", "tmpreaper")
def test_mounts_go_on_while_cleaners_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.endurance", "--seconds", "4"],
        cwd=TOP,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "soak: all well" in done.stdout


def test_what_becomes_of_each_job_is_told(tmp_path: Path) -> None:
    """A worker that died on its first mount would otherwise never have failed."""

    def note(name: str) -> None:
        with open(tmp_path / name, "a") as file:
            file.write("x")

    def works() -> float:
        note("works")
        return 1.0

    def fails() -> float:
        note("fails")
        raise Failed("not today")

    def breaks() -> float:
        note("breaks")
        raise ZeroDivisionError("oh")

    def tried(name: str, least: int) -> bool:
        file = tmp_path / name
        return file.exists() and file.stat().st_size >= least

    with working({"works": works, "fails": fails, "breaks": breaks}) as records:
        wait_until(
            lambda: tried("works", 2) and tried("fails", 2) and tried("breaks", 1),
            "each was tried, and again where it may be",
        )
    assert set(records["works"].seconds) == {1.0}
    assert records["works"].row == 0
    assert set(records["fails"].failures) == {"not today"}
    assert records["fails"].row == records["fails"].failures.total() > 1
    assert records["breaks"].failures == Counter(["ZeroDivisionError: oh"])


def test_the_end_may_be_waited_for_until_each_has_worked() -> None:
    """On a busy machine a container is started five times in the seconds of a test: each of them
    met a moment without the link, and that way was said never to mount."""
    tries = itertools.count()

    def works_in_the_end() -> float:
        if next(tries) < 100:
            raise Failed("not yet")
        return 1.0

    jobs = {"works": lambda: 1.0, "late": works_in_the_end}
    with working(jobs, until_each_worked=True) as records:
        pass
    assert records["late"].seconds
    assert records["late"].failures == Counter({"not yet": 100})


@pytest.mark.parametrize(
    ("record", "may_fail", "wrong"),
    [
        (Record([0.1] * 9, Counter(), 0), 0, []),
        (Record([0.1] * 9, Counter({"gone": 2}), 1), 2, []),
        (
            Record([0.1] * 9, Counter({"gone": 3}), 1),
            2,
            ["it failed 3 times, in 2 moments without the link"],
        ),
        (Record([0.1] * 9, Counter(["gone"]), 1), 0, ["it failed 1 times"]),
        (
            Record([0.1], Counter({"gone": 20_000}), 20_000),
            30_000,
            ["it failed 20,000 times in a row"],
        ),
        (Record([], Counter(), 0), 0, ["it never mounted"]),
    ],
)
def test_what_must_never_fail_may_not(record: Record, may_fail: int, wrong: list[str]) -> None:
    assert list(judged("it", may_fail, record)) == wrong


def test_a_mount_may_fail_once_in_each_moment_without_the_link_and_again_after_a_rest() -> None:
    """Sixteen removals of two rests each; those of rm that came too late are as good as any."""
    removals = {
        "rm": Record([2 * REST] * 5 + [0.0] * 5, Counter(), 0),
        "tmpreaper": Record([0.0] * 6, Counter(["it was busy"]), 1),
    }
    assert moments(removals) == 48
    assert moments(removals | {"rm": Record([0.0], Counter(), 0)}) == 0
