"""What goes first is answered before the event loop's own callbacks, and can't end the loop."""

import asyncio
import os
import select
import socket
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


def test_what_an_answer_closes_is_not_answered_any_more(world: World) -> None:
    """Though it was ready as well: the control socket is closed to be bound anew."""

    def answer() -> None:
        world.answer()
        world.loop.remove_reader(world.other[0])
        os.dup2(world.first[0], world.other[0])

    world.loop.add_reader(world.other[0], world.others_answer)
    world.selector.begin(world.first[0], answer)
    world.tell(world.other, world.first)
    world.turns()
    assert world.done == ["first"]


def test_both_ways_of_a_connection_are_told_apart(world: World) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for add, name in ((world.loop.add_reader, "read"), (world.loop.add_writer, "write")):
            add(ours, world.done.append, name)
        world.turns(1)
        assert world.done == ["write"]
        world.loop.remove_writer(ours)
        theirs.send(b"x")
        world.turns(1)
        assert world.done == ["write", "read"]
        world.loop.add_writer(ours, world.done.append, "write")
        theirs.close()
        world.turns(1)
        assert sorted(world.done[2:]) == ["read", "write"]
        world.loop.remove_reader(ours)
        world.loop.remove_writer(ours)


def test_nobody_who_comes_has_it_wait_for_a_lock_of_all_users(world: World) -> None:
    """A stranger who held epnested_mutex while others called had links put right 0.2 s late."""
    inner = select.epoll()
    for _ in range(2):
        world.selector.begin(inner.fileno(), world.answer)
        world.selector.end(inner.fileno())
    with_it = waited_for(world.selector.fileno())
    assert inner.fileno() in with_it, "to add it again, as after each mount, would take the lock"
    every = [each for each in map(int, os.listdir("/proc/self/fd")) if is_epoll(each)]
    assert world.selector.fileno() in every
    assert not any(world.selector.fileno() in waited_for(each) for each in every)
    inner.close()


def is_epoll(descriptor: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == "anon_inode:[eventpoll]"
    except FileNotFoundError:  # that by which the others were listed
        return False


def waited_for(epoll: int) -> list[int]:
    """The descriptors in the one EPOLL (proc_pid_fdinfo(5))."""
    with open(f"/proc/self/fdinfo/{epoll}", encoding="ascii") as lines:
        return [int(line.split()[1]) for line in lines if line.startswith("tfd:")]
