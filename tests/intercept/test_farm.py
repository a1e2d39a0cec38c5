"""Where the links don't suffice, layers get names from the farm."""

import errno
import os
from pathlib import Path

import pytest

from tests.intercept.world import World, mounts_at
from tests.kernel.world import all_of, joined, look, make_layers

pytestmark = pytest.mark.needs("root", "cc")


def test_layers_that_no_link_covers_are_mounted_by_the_farm(world: World, mounter: Path) -> None:
    """200 layers of two stores, and each path as long as with sha256 sums."""
    ids = range(400, 200, -1)
    layers = []
    for half, name in ((ids[:100], "a" * 64), (ids[100:], "b" * 64)):
        layers.append((half, os.fsencode(world.place / name)))
    paths = [path for half, store in layers for path in make_layers(half, store)]

    with world.with_a_farm() as farm:
        done = world.run(mounter, "plainly", world.file(joined(paths)), world.merged)
        assert done.stdout == "mount: 0\n"
        assert "by farm" in done.stderr
        used = {os.readlink(farm / name) for name in os.listdir(farm)}
    assert used == set(map(os.fsdecode, paths))
    assert look(os.fsencode(world.merged)).ids == sorted(ids)
    assert mounts_at(world.merged) == 1


def test_a_link_is_preferred(world: World, mounter: Path) -> None:
    """It outlives the farm's entries, and says more to who reads mountinfo."""
    ids, options = world.layers(128)
    with world.with_a_farm() as farm:
        done = world.run(mounter, "plainly", world.file(options), world.merged)
        assert "by link store" in done.stderr
        assert os.listdir(farm) == []
    assert look(os.fsencode(world.merged)) == all_of(ids)


def test_a_farm_that_no_cleaner_can_touch_is_preferred_to_a_link(
    world: World, mounter: Path
) -> None:
    """The link may be gone between our look and the kernel's: then the caller's mount failed."""
    ids, options = world.layers(128)
    with world.with_a_farm("append-only") as farm:
        done = world.run(mounter, "plainly", world.file(options), world.merged)
        assert "by farm" in done.stderr
        assert len(os.listdir(farm)) == 128
    assert str(world.short) not in Path("/proc/self/mountinfo").read_text()
    assert look(os.fsencode(world.merged)) == all_of(ids)


def test_the_reason_says_what_the_farm_said(world: World, mounter: Path) -> None:
    _, options = world.layers(60)
    file = world.file(options.replace(b"/io.containerd", b"/no.containerd"))
    done = world.run(mounter, "plainly", file, world.merged)
    assert done.stdout == f"mount: {errno.EINVAL}\n"
    assert "(what would help: a link that covers" in done.stderr

    with world.with_a_farm():
        done = world.run(mounter, "plainly", file, world.merged)

    assert done.stdout == f"mount: {errno.EINVAL}\n"
    assert "no layer that can be leased" in done.stderr
