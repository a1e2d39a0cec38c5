"""What goes first is answered before the event loop's own callbacks, and can't end the loop."""

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest

from ovl_linkd.service.first import First


class World:
    """A loop with a First; ``first`` is a pipe that goes before ``other``."""

    def __init__(self) -> None:
        self.selector = First()
        self.loop = asyncio.SelectorEventLoop(self.selector)
        self.first, self.other = os.pipe(), os.pipe()
        self.done: list[str] = []

    def tell(self, *pipes: tuple[int, int]) -> None:
        for _, end in pipes:
            os.write(end, b"x")

    def answer(self) -> None:
        os.read(self.first[0], 1)
        self.done.append("first")

    def others_answer(self) -> None:
        os.read(self.other[0], 1)
        self.done.append("other")

    def turns(self, count: int = 2) -> None:
        """Let the loop turn a few times."""
        asyncio.set_event_loop(None)
        for _ in range(count):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def close(self) -> None:
        self.loop.close()
        for end in (*self.first, *self.other):
            os.close(end)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def test_it_goes_before_what_was_ready_earlier(world: World) -> None:
    world.loop.add_reader(world.other[0], world.others_answer)
    world.selector.begin(world.first[0], world.answer)
    world.tell(world.other, world.first)
    world.turns()
    assert world.done == ["first", "other"]


def test_others_are_answered_though_it_is_always_ready(world: World) -> None:
    """Or who makes events without end would keep everybody else, signals too, from the daemon."""
    world.loop.add_reader(world.other[0], world.others_answer)
    world.selector.begin(world.first[0], lambda: world.done.append("first"))
    world.tell(world.first, world.other)
    world.turns()
    assert "other" in world.done


def test_it_is_woken_for_and_so_is_a_timer(world: World) -> None:
    """While the loop sleeps, with a timer or without one."""

    def answer() -> None:
        world.answer()
        if len(world.done) == 1:
            world.loop.call_later(0.01, world.tell, world.first)
        else:
            world.loop.stop()

    world.selector.begin(world.first[0], answer)
    world.loop.call_later(0.01, world.tell, world.first)
    world.loop.run_forever()
    assert world.done == ["first", "first"]


def test_trouble_is_the_exception_handlers(world: World) -> None:
    met: list[object] = []

    def fail() -> None:
        world.answer()
        raise ZeroDivisionError

    def handler(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        met.append(type(context["exception"]))

    world.loop.set_exception_handler(handler)
    world.selector.begin(world.first[0], fail)
    for _ in range(2):
        world.tell(world.first)
        world.turns()
    assert met == [ZeroDivisionError, ZeroDivisionError]
    assert world.done == ["first", "first"]


def test_after_the_end_nothing_is_answered_until_it_begins_again(world: World) -> None:
    world.selector.begin(world.first[0], world.answer)
    world.selector.end(world.first[0])
    world.selector.end(world.first[0])
    world.tell(world.first)
    world.turns()
    assert world.done == []
    world.selector.begin(world.first[0], world.answer)
    world.turns()
    assert world.done == ["first"]
