"""A daemon that the kernel doesn't let wait for events once hears of them all the same."""

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine

import pytest

from ovl_linkd.links.watch import Watch
from ovl_linkd.service import watching
from ovl_linkd.service.first import First
from ovl_linkd.service.watching import Watching


class Unwilling(First):
    """Has no memory left for who asks for one of ``refused``, each once."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[int] = set()

    def begin(self, descriptor: int, answer: Callable[[], None]) -> None:
        if descriptor in self.refused:
            self.refused.remove(descriptor)
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        super().begin(descriptor, answer)


class World:
    """A watch of nothing, and what was told of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watching, "PAUSE", 0.01)
        self.watch, self.first = Watch(), Unwilling()
        self.told: list[tuple[str, bool]] = []
        self.watching = Watching(
            self.watch,
            self.first,
            lambda *_: None,
            lambda *_: None,
            lambda *_: None,
            lambda thing, trouble: self.told.append((thing, trouble is not None)),
        )

    async def until(self, *told: tuple[str, bool]) -> None:
        async with asyncio.timeout(60):
            while self.told != list(told):
                await asyncio.sleep(0.01)

    def run(self, story: Coroutine[object, object, None]) -> None:
        """Have STORY happen in a loop that waits by ``first``."""
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(self.first)) as runner:
            runner.run(story)
        self.watch.close()


def test_the_mount_table_is_listened_to_a_while_later(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)

    async def story() -> None:
        world.first.refused = {world.watch.mounts_fileno()}
        world.watching.begin()
        assert world.told == [("mounts", True)]
        await world.until(("mounts", True), ("mounts", False))
        assert not world.first.refused

    world.run(story())


def test_so_are_events_after_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """They could not be read, and then not be waited for."""
    world = World(monkeypatch)

    def unreadable() -> list[str]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def story() -> None:
        world.watching.begin()
        world.told.clear()
        world.first.refused = {world.watch.fileno()}
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(world.watch, "read", unreadable)
            world.watching.catch_up()
        await world.until(("inotify", True), ("inotify", True), ("inotify", False))

    world.run(story())
