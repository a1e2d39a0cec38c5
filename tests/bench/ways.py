"""The ways to mount one store's layers, each forced: by the kernel's calls, and by mount(8)."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ovl_linkd.overlay import ladder, mounting
from ovl_linkd.overlay.context import Context
from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.overlay.options import parse
from ovl_linkd.overlay.shorten import plan
from tests.bench import world
from tests.bench.stores import Store
from tests.bench.systems import System

LIMITS = of_this_kernel()
POINT = f"{world.PLACE}/m"


class CantMount(Exception):
    """It does not mount in this way."""


class Way(NamedTuple):
    """``prepare`` returns what mounts so many layers of a store at POINT.

    It raises CantMount where nothing fits. ``seen_at``: where what was mounted is found.
    """

    name: str
    prepare: Callable[[Store, int], Callable[[], None]]
    command: str
    seen_at: Path = Path(POINT)


def _mount2(options: bytes) -> Callable[[], None]:
    if not options or len(options) > LIMITS.mount:
        raise CantMount
    return lambda: mounting.mount_overlay("bench", POINT, options)


def _plain(store: Store, count: int) -> Callable[[], None]:
    return _mount2(store.options(count))


def _link(store: Store, count: int) -> Callable[[], None]:
    return _mount2(plan(store.options(count), [store.link], LIMITS).options)


def _farm(store: Store, count: int) -> Callable[[], None]:
    return _mount2(plan(store.options(count), (), LIMITS, farm=store.farm(count)).options)


def _chdir(store: Store, count: int) -> Callable[[], None]:
    rungs = ladder.rungs(parse(store.options(count)), LIMITS, tuple, lambda _: ())
    for rung in rungs:
        if rung.directory and rung.options:
            mount, directory = _mount2(rung.options), rung.directory
            return lambda: _inside(directory, mount)
    raise CantMount


def _inside(directory: bytes, mount: Callable[[], None]) -> None:
    before = os.getcwd()
    os.chdir(directory)
    try:
        mount()
    finally:
        os.chdir(before)


def _fsconfig(most: int) -> Callable[[Store, int], Callable[[], None]]:
    """A layer a value; as an open directory where its path has more than MOST bytes."""

    def prepare(store: Store, count: int) -> Callable[[], None]:
        settings = ladder.settings(parse(store.options(count)))

        def mount() -> None:
            with Context() as context:
                for each in settings:
                    context.set(each, most)
                context.create()
                context.mount(POINT)

        return mount

    return prepare


LINK = Way("link", _link, "mount(2) of /run/ctrdl/ID/fs")
CHDIR = Way("chdir", _chdir, "chdir(2) to the root of the layers, mount(2) of ID/fs")
CALLS = [
    Way("plain", _plain, "mount(2) of the long names"),
    LINK,
    Way("farm", _farm, "mount(2) of /run/ctrdf/xx"),
    CHDIR,
    Way("lowerdir+", _fsconfig(LIMITS.fsconfig), "fsconfig(2) of lowerdir+, a layer a value"),
]
DESCRIPTORS = Way("descriptors", _fsconfig(0), "fsconfig(2) of lowerdir+, a layer a descriptor")


def by_mount8(system: System) -> list[Way]:
    """mount(8) of SYSTEM, given the long names: without our helper, and with it."""
    name, seen_at = f"mount(8) {system.version}", system.userland.path(POINT)
    words = "-t overlay -o OPTIONS overlay TARGET"
    return [
        Way(name, _by_words(system, "-i"), f"mount -i {words}", seen_at),
        Way(f"{name}, mount.overlay", _by_words(system), f"mount {words}", seen_at),
    ]


def _by_words(system: System, *words: str) -> Callable[[Store, int], Callable[[], None]]:
    def prepare(store: Store, count: int) -> Callable[[], None]:
        options = os.fsdecode(store.options(count))
        command = ("mount", *words, "-t", "overlay", "-o", options, "overlay", POINT)

        def mount() -> None:
            if system.userland.run(*command, code=None).returncode:
                raise CantMount

        return mount

    return prepare
