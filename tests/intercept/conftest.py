"""A world for each test, and the C programs, compiled once."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.intercept.world import World

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def programs() -> Iterator[Path]:
    """A directory with each C program of this one, compiled."""
    with tempfile.TemporaryDirectory(dir="/run") as directory:
        Path(directory).chmod(0o755)
        for source in HERE.glob("*.c"):
            target = Path(directory) / source.stem
            flags = ("-O1", "-Wall", "-Wextra", "-Werror", "-pthread")
            subprocess.run(["cc", *flags, "-o", target, source], check=True)
        yield Path(directory)


@pytest.fixture
def mounter(programs: Path) -> Path:
    """The program that mounts in many ways."""
    return programs / "mounter"


@pytest.fixture
def world(scratch: Path) -> World:
    """A store, a link, a mount point."""
    return World(scratch)
