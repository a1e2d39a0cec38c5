"""What `rewrite` makes for a mount(8) that takes 255 bytes a value, mounted by such a one."""

import os
from pathlib import Path

import pytest

from ovl_linkd.formats import fstab, mount_line
from ovl_linkd.formats.judging import BY_VALUE, FORCE, Means
from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.overlay.options import Malformed
from ovl_linkd.overlay.shorten import Prefix
from tests.intercept.world import World
from tests.kernel.world import all_of, look
from tests.userland import Userland

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def world(userland: Userland, scratch: Path) -> World:
    made = World(scratch)
    assert "fd-based-mount" in userland.run("mount", "--version").stdout
    return made


def links(world: World) -> list[Prefix]:
    return [Prefix("l", os.fsencode(world.snapshots), os.fsencode(world.short))]


def test_as_many_layers_of_fstab_as_are_printed_are_mounted(
    world: World, userland: Userland
) -> None:
    """One more, by the shortest names that there are, fails: that line is not printed."""
    ids, options = world.layers(20)
    head, _, layers = options.rpartition(b"lowerdir=")
    for count in range(20, 0, -1):
        some = head + b"lowerdir=" + b":".join(layers.split(b":")[:count])
        line = b"overlay %s overlay %s 0 0\n" % (os.fsencode(world.merged), some)
        made = fstab.rewrite(line, Means(links(world), of_this_kernel(), way=BY_VALUE))
        if made.text:
            break
        refused = line.replace(os.fsencode(world.snapshots), os.fsencode(world.short))
    assert 10 < count < 20
    userland.path("/etc/fstab").write_bytes(refused)
    userland.run("mount", world.merged, code=32)
    userland.path("/etc/fstab").write_bytes(made.text)
    userland.run("mount", world.merged)
    assert look(os.fsencode(userland.path(world.merged))) == all_of(ids[:count])


def test_a_mount_line_of_128_layers_is_told_to_use_mount_2(
    world: World, userland: Userland
) -> None:
    ids, options = world.layers(128)
    line = b"mount -t overlay overlay %s -o %s" % (os.fsencode(world.merged), options)
    made = mount_line.rewrite(line, Means(links(world), of_this_kernel(), way=BY_VALUE))
    userland.run("sh", "-c", os.fsdecode(made.text))
    assert look(os.fsencode(userland.path(world.merged))) == all_of(ids)


def test_what_mount_8_would_drop_is_not_printed(world: World, userland: Userland) -> None:
    """It reads quotes, as no overlay does: with one of them upperdir was gone, exit code 0."""
    ids, options = world.layers(2)
    head, _, layers = options.rpartition(b",lowerdir=")
    odd = b"lowerdir=%b,%b" % (layers, head.replace(b"/fs", b'/fs"'))
    line = b"%b mount -t overlay overlay %b -o '%b'" % (FORCE, os.fsencode(world.merged), odd)
    userland.run("sh", "-c", os.fsdecode(line))
    assert look(os.fsencode(userland.path(world.merged))) == all_of(ids)
    assert b"upperdir=" not in userland.path("/proc/self/mountinfo").read_bytes().splitlines()[-1]
    with pytest.raises(Malformed, match="line 1: a double quote without a second"):
        mount_line.rewrite(line, Means(links(world), of_this_kernel(), way=BY_VALUE))
