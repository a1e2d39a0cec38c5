"""Two Debians that have mount.overlay, whose mount(8)s differ."""

import os
import shutil
from pathlib import Path

import pytest

from ovl_linkd.overlay import mounting
from tests.helper.world import FRONT, Machine
from tests.userland import TOP, Userland


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of our code: whoever runs it may leave byte code there, in a checkout it may not."""
    made = tmp_path_factory.mktemp("library")
    made.chmod(0o755)
    ignored = shutil.ignore_patterns("__pycache__", "data")
    shutil.copytree(TOP / "daemon/ovl_linkd", made / "ovl_linkd", ignore=ignored)
    return made


@pytest.fixture(params=["debian12", "debian13"])
def machine(request: pytest.FixtureRequest, library: Path, scratch: Path) -> Machine:
    """A Debian with the helper, as its package would put it there."""
    lower: Path = request.getfixturevalue(request.param)
    place = scratch / "system"
    place.mkdir()
    userland = Userland(lower, place)
    where = userland.path("/usr/lib/ovl-linkd")
    where.mkdir()
    mounting.mount(os.fspath(library), os.fspath(where), "none", mounting.MS_BIND)
    helper = userland.path("/usr/sbin/mount.overlay")
    shutil.copy(FRONT, helper)
    helper.chmod(0o755)
    return Machine(userland, scratch / "l", library)
