"""Programs that mount by themselves, each in its way, under `ovl-linkd exec`."""

import os
from pathlib import Path

import pytest

from tests.intercept.world import LOOK, World, seen
from tests.kernel.world import all_of, look

pytestmark = pytest.mark.needs("root", "cc")


def mounts_at(place: Path) -> int:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sum(line.split()[4] == str(place) for line in lines)


def test_128_layers_are_mounted_by_a_program_that_knows_nothing_of_it(
    world: World, mounter: Path
) -> None:
    """The report that all this comes from. Without us: an error, or 51 layers and "success"."""
    ids, options = world.layers(128)

    done = world.run(mounter, "plainly", world.file(options), world.merged)

    assert done.stdout == "mount: 0\n"
    assert look(os.fsencode(world.merged)) == all_of(ids)
    assert mounts_at(world.merged) == 1
    assert "by link store" in done.stderr


@pytest.mark.parametrize("way", ["read-only", "signals"])
def test_whatever_the_program_is_like(world: World, mounter: Path, way: str) -> None:
    ids, options = world.layers(128)

    done = world.run(mounter, way, world.file(options), world.merged)

    assert done.stdout.startswith("mount: 0\n")
    assert look(os.fsencode(world.merged)) == all_of(ids)
    assert mounts_at(world.merged) == 1


@pytest.mark.parametrize("way", ["mount-namespace", "user-namespace"])
def test_from_another_namespace(world: World, mounter: Path, way: str) -> None:
    """With the caller's own rights, and where nobody outside sees it."""
    ids, options = world.layers(128)
    options = options.replace(b"index=off", b"userxattr") if way == "user-namespace" else options

    done = world.run(mounter, way, world.file(options), world.merged, *LOOK, world.merged)

    assert done.stdout == f"mount: 0\n{seen(all_of(ids))}\n"
    assert mounts_at(world.merged) == 0
