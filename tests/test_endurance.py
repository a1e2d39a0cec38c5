"""A few seconds of what `make soak` does for ten minutes: mounts by every way in, and cleaners."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.endurance.crew import Failed, Record, working
from tests.endurance.report import judged
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


@pytest.mark.parametrize(
    ("record", "may_fail", "wrong"),
    [
        (Record([0.1] * 9, Counter(), 0), False, []),
        (Record([0.1] * 9, Counter(["gone"]), 1), True, []),
        (Record([0.1] * 9, Counter(["gone"]), 1), False, ["it failed 1 times"]),
        (
            Record([0.1], Counter({"gone": 20_000}), 20_000),
            True,
            ["it failed 20,000 times in a row"],
        ),
        (Record([], Counter(), 0), False, ["it never mounted"]),
    ],
)
def test_what_must_never_fail_may_not(record: Record, may_fail: bool, wrong: list[str]) -> None:
    assert list(judged("it", may_fail, record)) == wrong
