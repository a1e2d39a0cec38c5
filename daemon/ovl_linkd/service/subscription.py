"""What changed since a follower last asked, and who follows."""

import asyncio
from collections.abc import Iterable


class Subscription:
    """The names of links that changed, for one follower.

    However slow it is, it costs no more than a set of names.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._news = asyncio.Event()
        self._ended = False

    def add(self, names: Iterable[str]) -> None:
        """The links NAMES changed."""
        self._names.update(names)
        self._news.set()

    def end(self) -> None:
        """There is no more to come."""
        self._ended = True
        self._news.set()

    async def next(self) -> set[str]:
        """Wait; the names since the last call. None of them: there is no more to come."""
        await self._news.wait()
        self._news.clear()
        names, self._names = self._names, set()
        return set() if self._ended else names


class Followers:
    """Everybody who follows."""

    def __init__(self) -> None:
        self._all: set[Subscription] = set()

    def join(self) -> Subscription:
        """One more; leave() when it has gone."""
        subscription = Subscription()
        self._all.add(subscription)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """No more for SUBSCRIPTION."""
        self._all.discard(subscription)

    def add(self, names: Iterable[str]) -> None:
        """The links NAMES changed."""
        known = list(names)
        for subscription in self._all:
            subscription.add(known)

    def end(self) -> None:
        """There is no more to come, for anybody."""
        for subscription in self._all:
            subscription.end()
