"""What clears /run and /tmp on real machines, all of it against the kept link without a pause."""

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.endurance.crew import Failed, Job

_OLD = 30 * 24 * 3600
_PATIENCE = 10.0  # seconds that a link may be away before that is a failure


def cleaners(link: Path, place: Path) -> dict[str, Job]:
    """By name, what removes LINK once and waits until it is back; the seconds that it was away.

    Only rm(1)'s unlink(2) can be timed from outside: the others take 0 seconds.
    """
    rules = {
        "clean": f"d {link.parent} - - - am:10d\n",
        "remove": f"r {link}\n",
    }
    for name, text in rules.items():
        (place / f"{name}.conf").write_text(text)
    return {
        "rm": lambda: _rm(link),
        "systemd-tmpfiles --clean": lambda: _aged(
            link, "systemd-tmpfiles", "--clean", place / "clean.conf"
        ),
        "systemd-tmpfiles --remove": lambda: _run(
            "systemd-tmpfiles", "--remove", place / "remove.conf"
        ),
        "tmpreaper": lambda: _aged(link, "tmpreaper", "--symlinks", "1d", link.parent),
    }


def _rm(link: Path) -> float:
    time.sleep(0.01)
    began = time.perf_counter()
    try:
        os.unlink(link)
    except FileNotFoundError:  # another cleaner was here
        return 0.0
    while not os.path.lexists(link):
        if time.perf_counter() - began > _PATIENCE:
            raise Failed(f"it was not back after {_PATIENCE:g} s")
    return time.perf_counter() - began


def _aged(link: Path, *command: str | Path) -> float:
    with suppress(FileNotFoundError):
        os.utime(link, (time.time() - _OLD,) * 2, follow_symlinks=False)
    return _run(*command)


def _run(*command: str | Path) -> float:
    time.sleep(0.05)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{command[0]}: {done.stderr.strip()}")
    return 0.0
