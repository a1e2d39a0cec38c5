"""mount.overlay and a real daemon's farm, on a kernel where nothing else would do."""

from pathlib import Path

import pytest

from ovl_linkd.published import PATH, Published, write
from tests import older_kernel
from tests.daemon.conftest import daemon as daemon
from tests.daemon.world import Daemon
from tests.helper.world import Machine, lower, refused

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def farm(daemon: Daemon) -> Path:
    """The farm of a daemon that runs, and has told of it."""
    path = daemon.directory / "f"
    daemon.write({}, farm={"path": str(path), "max-entries": 260})
    daemon.start()
    write(Published((), daemon.socket, [], str(path)))
    return path


def test_layers_that_have_nothing_in_common_go_by_the_farm(machine: Machine, farm: Path) -> None:
    """The same names again for a second mount; and where it is full, that is what is said."""
    try:
        ids = range(250)
        # Roots of their own for both halves: no directory is above all of them but /run.
        halves = [
            machine.layers(ids[:125], machine.store(name="a")),
            machine.layers(ids[125:], machine.store(name="b")),
        ]
        layers = [layer for half in halves for layer in half]
        for _ in range(2):
            machine.mounted(lower(layers), before=older_kernel.without_fsopen)
            assert f"lowerdir={farm}/" in machine.line()
            assert len(list((machine.userland.path(machine.target) / "only").iterdir())) == 250
            machine.umount()
        assert len(list(farm.iterdir())) == 250

        more = machine.layers(range(250, 270), machine.store(700, name="c"))
        done = machine.mount(lower([*layers, *more]), before=older_kernel.without_fsopen)
        assert "the farm is full: 250 entries of 260; raise farm.max-entries" in refused(done)
        assert not machine.line()
    finally:
        Path(PATH).unlink()
