"""What clears /run and /tmp on real machines, all of it against the kept link without a pause."""

import os
import random
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.endurance.crew import Failed, Job

_OLD = 30 * 24 * 3600
PAUSE = 0.02  # seconds; where a program has to be started, ten times as long
_PATIENCE = 10.0  # seconds that a link may be away before that is a failure


def cleaners(link: Path, farm: Path, place: Path) -> dict[str, Job]:
    """By name, what removes LINK once, or can't remove an entry of FARM, which is guarded.

    Only of rm can it be told how long LINK was away; the others take 0 seconds.
    """
    rules = {
        "clean": f"d {link.parent} - - - am:10d\n",
        "remove": f"r {link}\n",
        "farm": f"R {farm}\n",
    }
    for name, text in rules.items():
        (place / f"{name}.conf").write_text(text)
    return {
        "rm": lambda: _rm(link),
        "rm in the farm": lambda: _rm_any(farm),
        "systemd-tmpfiles --remove of the farm": lambda: _run(
            *("systemd-tmpfiles", "--remove", place / "farm.conf"), fails=True
        ),
        "systemd-tmpfiles --clean": lambda: _aged(
            link, "systemd-tmpfiles", "--clean", place / "clean.conf"
        ),
        "systemd-tmpfiles --remove": lambda: _run(
            "systemd-tmpfiles", "--remove", place / "remove.conf"
        ),
        "tmpreaper": lambda: _aged(link, "tmpreaper", "--symlinks", "1d", link.parent),
    }


def _rm(link: Path) -> float:
    time.sleep(PAUSE)
    began = time.perf_counter()
    try:
        os.unlink(link)
    except FileNotFoundError:  # another cleaner was here
        return 0.0
    while not os.path.lexists(link):
        if time.perf_counter() - began > _PATIENCE:
            raise Failed(f"it was not back after {_PATIENCE:g} s")
        time.sleep(20e-6)
    return time.perf_counter() - began


def _rm_any(farm: Path) -> float:
    """Try to remove an entry of a guarded farm."""
    time.sleep(PAUSE)
    for entry in random.sample(sorted(farm.glob("*")), 1):
        try:
            os.unlink(entry)
        except PermissionError:
            continue
        raise Failed("it could be removed")
    return 0.0


def _aged(link: Path, *command: str | Path) -> float:
    with suppress(FileNotFoundError):
        os.utime(link, (time.time() - _OLD,) * 2, follow_symlinks=False)
    return _run(*command)


def _run(*command: str | Path, fails: bool = False) -> float:
    time.sleep(10 * PAUSE)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if bool(done.returncode) != fails:
        raise Failed(f"{command[0]}: {done.stderr.strip()}")
    return 0.0
