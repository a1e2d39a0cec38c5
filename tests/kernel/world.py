"""A private world for a test: its own mount namespace, real layers, and a look at what is mounted.

The tests beside this file mount in earnest. Each runs in a child with its own mount namespace and
fresh file systems on /run and /var/lib, so that the paths are those of the story and nothing that
is mounted, made or broken there outlives the child.
"""

import ctypes
import functools
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple, ParamSpec

import pytest

from ovl_linkd.overlay import mounting, probes

P = ParamSpec("P")

features = functools.cache(probes.features)


@functools.cache
def overlays_in_user_namespaces() -> bool:
    """Whether this kernel lets root of a user namespace mount one, as Linux does from 5.11 on."""
    words = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-euc")
    script = """
        mount -t tmpfs tmpfs /mnt
        mkdir /mnt/a /mnt/b /mnt/m
        mount -i -t overlay -o lowerdir=/mnt/a:/mnt/b overlay /mnt/m"""
    return subprocess.run([*words, script], stderr=subprocess.DEVNULL, check=False).returncode == 0


STORE = b"/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
SNAPSHOTS = STORE + b"/snapshots"
SHORT = b"/run/ctrdl"
MOUNT_POINT = b"/run/merged"


def in_a_private_world(test: Callable[P, None]) -> Callable[P, None]:
    """Run TEST in a child process, in its private world; what it raises fails the test."""

    @functools.wraps(test)
    def forked(*args: P.args, **kwargs: P.kwargs) -> None:
        reading, writing = os.pipe()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            _in_the_child(lambda: test(*args, **kwargs), writing)
        os.close(writing)
        with open(reading, encoding="utf-8", errors="replace") as pipe:
            failure = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if failure or status:
            pytest.fail(failure or f"the child died: {status}", pytrace=False)

    return forked


def _in_the_child(test: Callable[[], None], failure: int) -> None:
    """Never returns: what follows in the parent must not happen twice."""
    try:
        mounting.private_mount_namespace()
        for directory in ("/run", "/var/lib"):
            mounting.mount("world", directory, "tmpfs", 0, b"mode=0755")
        os.mkdir(MOUNT_POINT)
        test()
    except BaseException:
        os.write(failure, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(0)


class View(NamedTuple):
    """What is to be seen at a mount point.

    ``ids``: the layers of which the unique file is there, sorted. ``order``: which layer won each
    of the files that two neighbours hold, from the top. ``foreign``: names at the root of the tree
    that no layer put there.
    """

    ids: list[int]
    order: list[int]
    foreign: list[str]


def make_layers(ids: Sequence[int], snapshots: bytes = SNAPSHOTS) -> list[bytes]:
    """Make a layer for each of IDS, the topmost first; return their paths.

    Each holds a file of its own, ``only/ID``, and shares ``pair/P`` with its neighbour: the upper
    one of the two must win it. If each pair is won by the right layer, all are in order.
    """
    layers = []
    for position, number in enumerate(ids):
        layer = b"%s/%d/fs" % (snapshots, number)
        _write(b"%s/only/%d" % (layer, number), number)
        for pair in {max(position - 1, 0), position}:
            _write(b"%s/pair/%d" % (layer, pair), number)
        layers.append(layer)
    return layers


def _write(path: bytes, number: int) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(str(number))


def make_upper(number: int, snapshots: bytes = SNAPSHOTS) -> tuple[bytes, bytes]:
    """Make the directories of a container's own layer; return (upperdir, workdir)."""
    upper, work = b"%s/%d/fs" % (snapshots, number), b"%s/%d/work" % (snapshots, number)
    os.makedirs(upper)
    os.makedirs(work)
    return upper, work


def look(root: bytes = MOUNT_POINT) -> View:
    """Count what is mounted at ROOT, by its files alone."""
    pairs = sorted(int(name) for name in os.listdir(root + b"/pair"))
    order = []
    for pair in pairs:
        with open(b"%s/pair/%d" % (root, pair)) as file:
            order.append(int(file.read()))
    ids = sorted(int(name) for name in os.listdir(root + b"/only"))
    foreign = sorted(set(map(os.fsdecode, os.listdir(root))) - {"only", "pair"})
    return View(ids, order, foreign)


def all_of(ids: Sequence[int]) -> View:
    """What must be seen where every layer of IDS is mounted, in order, and nothing else."""
    return View(sorted(ids), list(ids), [])


def joined(layers: Sequence[bytes]) -> bytes:
    """The option that names LAYERS, whose paths need no escapes."""
    return b"lowerdir=" + b":".join(layers)


def mount_as_it_stands(options: bytes, target: bytes = MOUNT_POINT) -> int:
    """mount(2) without any of our care; return 0 or the errno.

    ovl_linkd has no such call: it would let the kernel cut the options.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"overlay", target, b"overlay", ctypes.c_ulong(0), options) == 0:
        return 0
    return ctypes.get_errno()
