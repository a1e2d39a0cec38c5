"""Real overlay mounts through the short link, counted and checked layer by layer."""

import os

import pytest

from ovl_linkd.overlay import diagnosis, limits, mounting, options, shorten
from tests.kernel.world import (
    MOUNT_POINT,
    SHORT,
    SNAPSHOTS,
    all_of,
    in_a_private_world,
    joined,
    look,
    make_layers,
    make_upper,
)

pytestmark = pytest.mark.needs("root")

LIMITS = limits.of_this_kernel(page_size=4096)
LINK = shorten.Prefix("ctrdl", target=SNAPSHOTS, short=SHORT)


def _container(ids: range, upper_id: int) -> bytes:
    """Make a container of these layers; return its options as containerd writes them."""
    upper, work = make_upper(upper_id)
    return b"index=off,workdir=%s,upperdir=%s,%s" % (work, upper, joined(make_layers(ids)))


@pytest.mark.parametrize("count", [30, 60, 128, 200])
@in_a_private_world
def test_every_layer_is_there_through_the_link(count: int) -> None:
    """What the long paths can't do past 52 layers: each layer is mounted, in its place, writable.

    A silent cut would pass a test of the return code alone; the files tell.
    """
    ids = range(100 + count, 100, -1)
    text = _container(ids, 999)
    os.symlink(SNAPSHOTS, SHORT)

    plan = shorten.plan(text, [LINK], LIMITS)
    mounting.mount_overlay("overlay", MOUNT_POINT, plan.options, limits=LIMITS)

    assert (plan.strategy, plan.fits, plan.layers) == ("link", True, count)
    assert look() == all_of(ids)
    with open(MOUNT_POINT + b"/new", "w") as file:
        file.write("written through the mount")
    assert os.path.getsize(SNAPSHOTS + b"/999/fs/new") == 25


@in_a_private_world
def test_the_most_layers_that_fit_are_mounted_and_one_more_is_refused() -> None:
    """The capacity that `status` promises is the real one, at its very edge."""
    most = shorten.capacity(SHORT, LIMITS)
    os.symlink(SNAPSHOTS, SHORT)
    ids = range(998, 998 - most, -1)
    text = _container(ids, 999)

    plan = shorten.plan(text, [LINK], LIMITS)
    mounting.mount_overlay("overlay", MOUNT_POINT, plan.options, limits=LIMITS)

    assert look() == all_of(ids)
    layer = b"%s/%d/fs" % (SNAPSHOTS, 998 - most)
    more = shorten.plan(b"%s:%s" % (text, layer), [LINK], LIMITS)
    assert not more.fits
    assert more.reason


@in_a_private_world
def test_500_layers_are_mounted_where_names_are_short_enough() -> None:
    """The kernel's own limit of layers is 500; 501 are EINVAL, and we know why."""
    os.makedirs("/run/l")
    for number in range(501):
        os.mkdir(f"/run/l/{number}")
    os.chdir("/run/l")
    most = b"lowerdir=" + b":".join(b"%d" % number for number in range(500))

    mounting.mount_overlay("overlay", MOUNT_POINT, most, limits=LIMITS)

    mounting.umount(MOUNT_POINT)
    with pytest.raises(OSError, match="Invalid argument") as caught:
        mounting.mount_overlay("overlay", MOUNT_POINT, most + b":500", limits=LIMITS)
    reason = diagnosis.diagnose(most + b":500", caught.value)
    assert reason == "501 lower layers; the kernel takes 500"


@in_a_private_world
def test_a_live_mount_does_not_feel_what_happens_to_the_link() -> None:
    """The kernel follows the link once. A cleaner, a daemon that stops: containers go on."""
    ids = range(228, 100, -1)
    text = _container(ids, 999)
    os.symlink(SNAPSHOTS, SHORT)
    plan = shorten.plan(text, [LINK], LIMITS)
    mounting.mount_overlay("overlay", MOUNT_POINT, plan.options, limits=LIMITS)

    os.unlink(SHORT)
    assert look() == all_of(ids)

    os.symlink("/", SHORT)
    assert look() == all_of(ids)


STORES = {
    "spaces": b"/var/lib/my  store/snap shots",
    "commas": b"/var/lib/a,b/,/snapshots",
    "colons": b"/var/lib/c:d/snapshots:",
    "backslashes": b"/var/lib/e\\f/snap\\\\shots",
    "backslash before a separator": b"/var/lib/g\\,h\\:i/snapshots",
    "not UTF-8": b"/var/lib/\xff\xfe\xe9/snapshots",
    "quotes and equals signs": b"/var/lib/\"j\"='k'/lowerdir=l",
    "a newline and a tab": b"/var/lib/m\nn\t/snapshots",
    "beyond ASCII": "/var/lib/ström/снимки/层".encode(),
}


@pytest.mark.parametrize("snapshots", STORES.values(), ids=STORES.keys())
@in_a_private_world
def test_the_same_tree_by_the_long_and_by_the_short_name(snapshots: bytes) -> None:
    """Whatever bytes the store's path holds, the shorter options mean the same directories."""
    ids = range(12, 0, -1)
    upper, work = make_upper(99, snapshots)
    layers = b":".join(_escaped(layer, b"\\:,") for layer in make_layers(ids, snapshots))
    paths = (layers, _escaped(upper, b"\\,"), _escaped(work, b"\\,"))
    text = b"lowerdir=%s,upperdir=%s,workdir=%s" % paths
    os.symlink(snapshots, SHORT)
    link = shorten.Prefix("link", target=snapshots, short=SHORT)

    plan = shorten.plan(text, [link], LIMITS)

    assert plan.strategy == "link"
    assert plan.options.count(SHORT + b"/") == len(ids) + 2
    assert _tree(text) == _tree(plan.options)
    assert shorten.expand(plan.options, [link]) == text


def _escaped(path: bytes, special: bytes) -> bytes:
    return b"".join(b"\\%c" % byte if byte in special else b"%c" % byte for byte in path)


def _tree(text: bytes) -> list[tuple[bytes, bytes]]:
    """Mount TEXT and return each file in it with its content."""
    assert options.parse(text).format() == text
    mounting.mount_overlay("overlay", MOUNT_POINT, text, limits=LIMITS)
    try:
        assert look() == all_of(range(12, 0, -1))
        found = []
        for directory, _, names in os.walk(MOUNT_POINT):
            for name in names:
                path = os.path.join(directory, name)
                with open(path, "rb") as file:
                    found.append((path, file.read()))
        return sorted(found)
    finally:
        mounting.umount(MOUNT_POINT)
