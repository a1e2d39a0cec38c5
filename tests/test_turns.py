"""Requests by turns: trusted ones at once, strangers' with rests, and links before each."""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple, cast

from ovl_linkd.service.peer import Peer
from ovl_linkd.service.turns import REST, Turns

BUSY = 0.002  # seconds; no busy machine keeps us from running for 200 times as long


class Someone(NamedTuple):
    """What counts of a Peer."""

    uid: int
    trusted: bool = False


ROOT, ONE, OTHER = Someone(0, trusted=True), Someone(1001), Someone(1002)


class Asked:
    """Turns, and what was done, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.turns = Turns(lambda: self.done.append("links"))

    def ask(
        self,
        name: str,
        who: Someone,
        answer: Callable[[], asyncio.Future[None] | None] = lambda: None,
    ) -> asyncio.Future[None] | None:
        """Have WHO ask for NAME, which takes BUSY seconds and then ANSWERs."""

        def busy() -> asyncio.Future[None] | None:
            self.done.append(name)
            end = time.thread_time() + BUSY
            while time.thread_time() < end:
                pass
            return answer()

        return self.turns.take(busy, cast("Peer", who))


async def ended(*futures: asyncio.Future[None] | None) -> None:
    for each in futures:
        assert each, "it did not wait"
        await each


def test_links_go_before_each_request_and_before_one_that_only_waits() -> None:
    """A turn of the loop may bring hundreds of them."""

    async def main() -> list[str]:
        asked = Asked()
        assert asked.ask("one", ONE) is None
        await ended(asked.ask("two", ONE))
        asked.ask("root's", ROOT)
        return asked.done

    # When "two" came, and when it had its turn.
    assert asyncio.run(main()) == ["links", "one", "links", "links", "two", "links", "root's"]


def test_strangers_wait_for_each_other_and_nobody_else_for_them() -> None:
    """Least of all one of them for all that another has asked before."""

    async def main() -> tuple[list[str], float]:
        asked, began = Asked(), time.monotonic()
        asked.ask("one", ONE)
        waiting = [asked.ask(name, ONE) for name in ("two", "three")] + [
            asked.ask("other's", OTHER)
        ]
        assert asked.ask("root's", ROOT) is None
        await ended(*waiting)
        return [name for name in asked.done if name != "links"], time.monotonic() - began

    done, took = asyncio.run(main())
    assert done == ["one", "root's", "two", "other's", "three"]
    assert took >= 3 * REST * BUSY


def test_a_request_that_goes_on_is_done_when_it_says_so() -> None:
    async def main() -> None:
        asked = Asked()
        asked.ask("one", ONE)
        end = asyncio.get_running_loop().create_future()
        waiting = asked.ask("two", ONE, lambda: end)
        await ended(asked.ask("three", ONE))
        assert waiting
        assert not waiting.done()
        end.set_result(None)
        await waiting

    asyncio.run(main())
