"""Layers under paths of the lengths that people have, and a look at what was mounted of them."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ovl_linkd.overlay.prefixes import Prefix
from tests.bench import world

MOST = 500  # OVL_MAX_STACK in fs/overlayfs/params.h
LINK = b"/run/ctrdl"
FARM = b"/run/ctrdf"


class Store(NamedTuple):
    """``root`` holds a directory a layer, named by ``id_of`` its number; ``leaf`` lies in that."""

    name: str
    root: bytes
    id_of: Callable[[int], bytes]
    leaf: bytes

    def layer(self, number: int) -> bytes:
        """The path of layer NUMBER, from 0 on."""
        return b"%b/%b/%b" % (self.root, self.id_of(number), self.leaf)

    def options(self, count: int, own: int = 0) -> bytes:
        """COUNT layers, the newest on top, for container OWN, as containerd writes them."""
        mine = b"%b/%b" % (self.root, self.id_of(MOST + own))
        layers = b":".join(self.layer(number) for number in reversed(range(count)))
        return b"index=off,workdir=%b/work,upperdir=%b/fs,lowerdir=%b" % (mine, mine, layers)

    @property
    def link(self) -> Prefix:
        """The kept link to the root."""
        return Prefix("ctrdl", self.root, LINK)

    def farm(self, count: int) -> list[Prefix]:
        """An entry of a farm for each of COUNT layers."""
        entries = (
            (self.layer(number), b"%b/%b" % (FARM, _entry(number))) for number in range(count)
        )
        return [Prefix(os.fsdecode(short), path, short) for path, short in entries]

    @contextmanager
    def made(self, containers: int = 1) -> Iterator[None]:
        """All layers, and the own directories of so many CONTAINERS, are there meanwhile.

        Each layer holds a file that no other has, and one that all have.
        """
        for number in range(MOST):
            layer = os.fsdecode(self.layer(number))
            os.makedirs(f"{layer}/only")
            for name in (f"only/{number}", "all"):
                with open(f"{layer}/{name}", "w") as file:
                    file.write(str(number))
        for own in range(MOST, MOST + containers):
            for leaf in (b"work", b"fs"):
                os.makedirs(b"%b/%b/%b" % (self.root, self.id_of(own), leaf))
        try:
            yield
        finally:
            shutil.rmtree(self.root)
            os.makedirs(world.STORE, exist_ok=True)  # the other themes count on it

    @contextmanager
    def named(self) -> Iterator[None]:
        """The link and the farm are there meanwhile, and nobody keeps them."""
        os.symlink(self.root, LINK)
        os.mkdir(FARM)
        for entry in self.farm(MOST):
            os.symlink(entry.target, entry.short)
        try:
            yield
        finally:
            shutil.rmtree(FARM)
            os.unlink(LINK)


def shows(root: str, count: int) -> bool:
    """Whether ROOT shows the first COUNT layers of a store, and the last of them on top."""
    seen = {int(name) for name in os.listdir(f"{root}/only")}
    with open(f"{root}/all") as file:
        return seen == set(range(count)) and file.read() == str(count - 1)


def _entry(number: int) -> bytes:
    """Two digits in base 62, as the first 3,843 entries of a farm have at most."""
    digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return bytes((digits[1 + number // 62], digits[number % 62]))


def _sha256(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).hexdigest().encode()


_CONTAINERD = world.STORE.encode()
STORES = [
    Store("short root", b"/var/lib/s", lambda number: b"%d" % (101 + number), b"fs"),
    Store("containerd, 3 digits", _CONTAINERD, lambda number: b"%d" % (101 + number), b"fs"),
    Store("containerd, 5 digits", _CONTAINERD, lambda number: b"%d" % (10_101 + number), b"fs"),
    Store("containerd, 20 digits", _CONTAINERD, lambda number: b"%020d" % number, b"fs"),
    Store("sha256", b"/var/lib/images/sha256", _sha256, b"diff"),
]
