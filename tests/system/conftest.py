"""Machines to boot, with what `make install` lays down."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machine import TARGET, TOP, Machine, sweep


def install(root: Path) -> None:
    """`make install` below ROOT, as root on the machine would: it needs no systemd to talk to."""
    subprocess.run(
        ["make", "--silent", "install", f"DESTDIR={root}"],
        cwd=TOP,
        env={key: value for key, value in os.environ.items() if not key.startswith("MAKE")},
        stdin=subprocess.DEVNULL,
        check=True,
    )


@pytest.fixture(scope="session")
def installed() -> Iterator[Path]:
    """The installed files. On a tmpfs: no layer of an overlay mount may lie in another."""
    sweep()
    directory = Path("/run/installed")
    install(directory)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def machine(installed: Path, scratch: Path) -> Iterator[Machine]:
    """A machine that is off; the service is enabled, and the packaged link has a target."""
    made = Machine(installed, scratch)
    made.enable("ovl-linkd")
    (made.root / TARGET[1:]).mkdir(mode=0o700, parents=True, exist_ok=True)
    yield made
    made.scrap()


@pytest.fixture
def running(machine: Machine) -> Machine:
    """A machine that is up, and so is the service."""
    machine.boot()
    assert machine.show("ActiveState") == "active"
    return machine
