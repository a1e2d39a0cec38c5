"""What the kernel does to options that are longer than a page: the reason for all the rest.

mount(2) copies one page of options and drops the rest without an error. These tests call it as it
stands. Should a future kernel refuse such options, or take them whole, they fail: good news.
"""

import errno
import os

import pytest

from ovl_linkd.overlay import mounting
from tests.kernel.world import (
    MOUNT_POINT,
    SHORT,
    SNAPSHOTS,
    STORE,
    all_of,
    in_a_private_world,
    joined,
    look,
    make_layers,
    make_upper,
    mount_as_it_stands,
)

pytestmark = [
    pytest.mark.needs("root"),
    pytest.mark.skipif(os.sysconf("SC_PAGE_SIZE") != 4096, reason="needs pages of 4,096 bytes"),
]

READ = 4095  # what the kernel keeps of a page: copy_mount_options zeroes the last byte


@in_a_private_world
def test_60_long_layers_fail_with_an_error_that_names_nothing() -> None:
    """The operator sees "no such file or directory" although every layer is there."""
    upper, work = make_upper(160)
    layers = make_layers(range(159, 99, -1))
    options = b"workdir=%s,upperdir=%s,%s" % (work, upper, joined(layers))
    cut = options[:READ].rpartition(b":")[2]
    assert not os.path.exists(cut), "the cut must fall within a name"

    assert mount_as_it_stands(options) == errno.ENOENT


@in_a_private_world
def test_128_long_layers_fail_with_an_error_that_misleads() -> None:
    """The cut leaves the whole store as a layer above its own: "too many levels of symlinks"."""
    options = joined(make_layers(range(228, 100, -1)))
    assert options[:READ].endswith(b":" + STORE)

    assert mount_as_it_stands(options) == errno.ELOOP


@in_a_private_world
def test_128_long_layers_succeed_without_the_lower_77() -> None:
    """Return code 0, upperdir works, and the base of the image is not there.

    The options are ordered as containerd orders them, and the cut falls just before a colon.
    """
    upper, work = make_upper(1038)
    ids = range(1037, 909, -1)
    options = b"workdir=%s,upperdir=%s,%s" % (work, upper, joined(make_layers(ids)))
    assert options[READ : READ + 1] == b":"

    assert mount_as_it_stands(options) == 0

    assert look() == all_of(ids[:51])
    open(MOUNT_POINT + b"/new", "x").close()


@in_a_private_world
def test_128_long_layers_succeed_with_the_root_of_the_host_as_one() -> None:
    """The cut falls after the first byte of a path: upperdir is lost, and /etc shows.

    It happens where the store is a file system of its own; within one, the kernel sees that `/`
    holds the layers above it, and answers ELOOP.
    """
    upper, work = make_upper(99)
    ids = [*range(10_003, 9_999, -1), *range(9_999, 9_875, -1)]
    options = b"%s,upperdir=%s,workdir=%s" % (joined(make_layers(ids)), upper, work)
    assert options[:READ].endswith(b"/fs:/")

    assert mount_as_it_stands(options) == 0

    view = look()
    assert view.ids == sorted(ids[:53])
    assert {"etc", "usr", "var"} <= set(view.foreign)
    with pytest.raises(OSError, match="Read-only") as caught:
        open(MOUNT_POINT + b"/new", "x").close()
    assert caught.value.errno == errno.EROFS, "upperdir= lay behind the cut"


@in_a_private_world
@pytest.mark.parametrize("excess", [1, 2, 3])
def test_three_bytes_too_many_lose_a_layer_silently(excess: int) -> None:
    """Short names only move the limit: a few bytes past it, and `ID/fs` becomes `ID`, or less.

    This is why shortening is not enough and what comes out must be counted.
    """
    ids = list(range(999, 750, -1))
    os.symlink(SNAPSHOTS, SHORT)
    make_layers(ids)
    layers = [b"%s/%d/fs" % (SHORT, number) for number in ids]
    options = _exactly(READ + excess, layers)
    last = options[:READ].rpartition(b":")[2]

    answer = mount_as_it_stands(options)

    assert os.path.isdir(last) == (answer == 0)
    assert last != options.rpartition(b":")[2]
    if answer == 0:
        assert int(options.split(b"/")[-2]) not in look().ids, "the last layer is not mounted"
    else:
        assert answer == errno.ENOENT
    assert (answer == 0) == (excess != 1), "/fs becomes /f, / or nothing"


@in_a_private_world
def test_exactly_one_page_less_a_byte_is_taken_whole() -> None:
    """The limit is neither a byte less nor a byte more than we say."""
    ids = list(range(999, 750, -1))
    os.symlink(SNAPSHOTS, SHORT)
    make_layers(ids)
    options = _exactly(READ, [b"%s/%d/fs" % (SHORT, number) for number in ids])

    mounting.mount_overlay("overlay", MOUNT_POINT, options)

    assert look() == all_of(ids[: options.count(b":") + 1])


@in_a_private_world
@pytest.mark.parametrize("count", [60, 128])
def test_we_refuse_what_the_kernel_would_cut(count: int) -> None:
    """The same options through our own call: no mount, and an error that says why."""
    options = joined(make_layers(range(100 + count, 100, -1)))

    with pytest.raises(mounting.OptionsTooLong, match="drops the rest") as caught:
        mounting.mount_overlay("overlay", MOUNT_POINT, options)

    assert (caught.value.size, caught.value.limit) == (len(options), READ)
    assert not os.path.ismount(MOUNT_POINT)


def _exactly(size: int, layers: list[bytes]) -> bytes:
    """As many LAYERS as make SIZE bytes of options; an harmless option in front fills the gap."""
    while len(joined(layers)) > size - len(b"xino=off,"):
        layers = layers[:-1]
    gap = size - len(joined(layers))
    options = b"xino=off," * (gap // 9) + joined(layers)
    # A path may repeat its slashes; the kernel reads them as one.
    return options.replace(b"=/run", b"=" + b"/" * (gap % 9) + b"/run", 1)
