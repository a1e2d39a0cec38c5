"""Daemons that are sure to end with their test, and a place for them."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.world import Daemon


@pytest.fixture
def daemon(scratch: Path) -> Iterator[Daemon]:
    """A daemon of the test's own, not yet started, in `scratch`/d; stopped and checked after."""
    directory = scratch / "d"
    directory.mkdir(mode=0o755)
    made = Daemon(directory)
    yield made
    try:
        if made.running:
            made.stop()
    finally:
        made.kill()


@pytest.fixture(scope="module")
def shared() -> Iterator[Callable[[], Daemon]]:
    """Makes daemons that all tests of a module share; each is stopped and checked after them."""
    made: list[Daemon] = []

    def make() -> Daemon:
        directory = Path(tempfile.mkdtemp(prefix="m", dir="/run"))
        directory.chmod(0o755)
        made.append(Daemon(directory))
        return made[-1]

    yield make
    try:
        for one in made:
            if one.running:
                one.stop()
    finally:
        for one in made:
            one.kill()
            shutil.rmtree(one.directory, ignore_errors=True)
