"""mount(2) answers with a number; what it meant is said where looking can tell."""

import errno
import os

import pytest

from ovl_linkd.overlay import diagnosis, mounting
from tests.kernel.world import MOUNT_POINT, in_a_private_world

pytestmark = pytest.mark.needs("root")

# Options, the errno that the kernel answers them with, and what we say. Paths are below /run.
FAILURES = {
    "a layer is missing": (
        b"lowerdir=a:gone:b",
        errno.ENOENT,
        "lower layer 2 of 3 does not exist: gone",
    ),
    "a missing layer with escapes": (
        rb"lowerdir=a\:x:b",
        errno.ENOENT,
        "lower layer 1 of 2 does not exist: a:x",
    ),
    "a layer is a file": (
        b"lowerdir=a:file",
        errno.EINVAL,
        "lower layer 2 of 2 is not a directory: file",
    ),
    "a layer is below a file": (
        b"lowerdir=a:file/x",
        errno.ENOTDIR,
        "lower layer 2 of 2: Not a directory: file/x",
    ),
    "a layer is a dangling link": (
        b"lowerdir=a:dangling",
        errno.ENOENT,
        "lower layer 2 of 2 does not exist: dangling",
    ),
    "a layer is a loop of links": (
        b"lowerdir=a:loop",
        errno.ELOOP,
        "lower layer 2 of 2: Too many levels of symbolic links: loop",
    ),
    "the last of several lowerdir= counts": (
        b"lowerdir=gone:gone,lowerdir=a:missing",
        errno.ENOENT,
        "lower layer 2 of 2 does not exist: missing",
    ),
    "upperdir is missing": (
        b"lowerdir=a,upperdir=gone,workdir=work",
        errno.ENOENT,
        "upperdir does not exist: gone",
    ),
    "workdir is missing": (
        b"lowerdir=a,upperdir=upper,workdir=gone",
        errno.ENOENT,
        "workdir does not exist: gone",
    ),
    "upperdir without workdir": (
        b"lowerdir=a,upperdir=upper",
        errno.EINVAL,
        "an upperdir needs a workdir",
    ),
    "workdir without upperdir, which the kernel ignores": (
        b"lowerdir=a:b,workdir=work,nofail",
        errno.EINVAL,
        None,
    ),
    "a single layer": (
        b"lowerdir=a",
        errno.EINVAL,
        "one lower layer and no upperdir: at least two layers are needed",
    ),
    "two file systems": (
        b"lowerdir=a,upperdir=upper,workdir=other/work",
        errno.EINVAL,
        "upperdir and workdir are on different file systems",
    ),
    "a read-only upperdir": (
        b"lowerdir=a,upperdir=ro/upper,workdir=ro/work",
        errno.EINVAL,
        "the file system of upperdir is read-only: ro/upper",
    ),
    "an empty layer": (
        b"lowerdir=a:b:",
        errno.EINVAL,
        "an empty layer at the end of lowerdir=",
    ),
    "an option nobody knows": (
        b"lowerdir=a:b,nofail",
        errno.EINVAL,
        None,
    ),
    "one directory twice": (
        b"lowerdir=a:b:a",
        errno.ELOOP,
        "lower layer 1 of 3 and lower layer 3 of 3 are the same directory: a",
    ),
    "one layer inside another": (
        b"lowerdir=other:other/work",
        errno.ELOOP,
        "lower layer 2 of 2 lies inside lower layer 1 of 2: /run/other/work",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
@in_a_private_world
def test_the_cause_is_named_where_it_can_be_known(case: str) -> None:
    """Where it can't, nothing is said: a wrong cause costs more time than none."""
    _make_directories()
    text, number, reason = FAILURES[case]

    with pytest.raises(OSError, match=r".") as caught:
        mounting.mount_overlay("overlay", MOUNT_POINT, text)

    assert caught.value.errno == number
    assert caught.value.filename == os.fsdecode(MOUNT_POINT)
    assert diagnosis.diagnose(text, caught.value) == reason


@pytest.mark.parametrize(("target", "number"), [("gone", errno.ENOENT), ("file", errno.ENOTDIR)])
@in_a_private_world
def test_a_missing_mount_point_is_not_taken_for_a_missing_layer(target: str, number: int) -> None:
    """The kernel's ENOENT is the same for both."""
    _make_directories()

    with pytest.raises(OSError, match=r".") as caught:
        mounting.mount_overlay("overlay", target, b"lowerdir=a:b")

    assert caught.value.errno == number
    reason = diagnosis.diagnose(b"lowerdir=a:b", caught.value)
    assert reason == f"no directory to mount on: {target}"


def _make_directories() -> None:
    os.chdir("/run")
    for name in ("other", "ro"):
        os.mkdir(name)
        mounting.mount("world", name, "tmpfs")
    for name in ("a", "b", "upper", "work", "other/work", "ro/upper", "ro/work"):
        os.mkdir(name)
    mounting.mount("world", "ro", "", 0x20 | mounting.MS_RDONLY)  # MS_REMOUNT
    open("file", "x").close()
    os.symlink("loop", "loop")
    os.symlink("gone", "dangling")
