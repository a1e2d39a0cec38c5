"""A few seconds of what `make soak` does for ten minutes: mounts by every way in, and cleaners."""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.endurance.crew import Failed, Record, working
from tests.endurance.report import judged

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


def test_what_becomes_of_each_job_is_told() -> None:
    """A worker that died on its first mount would otherwise never have failed."""

    def works() -> float:
        time.sleep(0.001)
        return 1.0

    def fails() -> float:
        raise Failed("not today")

    def breaks() -> float:
        raise ZeroDivisionError("oh")

    with working({"works": works, "fails": fails, "breaks": breaks}) as records:
        time.sleep(0.2)
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
