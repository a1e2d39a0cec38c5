"""The watch in the event loop: what changed is mended first, as often as it takes, then told."""

import asyncio
from collections.abc import Callable, Collection

from ovl_linkd.errors import UserError
from ovl_linkd.links.watch import Watch
from ovl_linkd.service.clock import clock
from ovl_linkd.service.first import First
from ovl_linkd.service.troubles import PAUSE

MOST_READS = 64  # of events in a row before anything else gets a turn
GATHER = 0.1  # seconds in which further changes of the mount table are gathered


class Watching:
    """Reads WATCH from begin() on, by way of FIRST.

    ``mend`` is called with tags and the time, again and again in a storm, and ``after`` with the
    time when the last were mended. ``look`` is called with tags that no event named. ``told``: as
    for Report.once().
    """

    def __init__(
        self,
        watch: Watch,
        first: First,
        mend: Callable[[Collection[str], float], None],
        after: Callable[[float], None],
        look: Callable[[Collection[str], float], None],
        told: Callable[[str, str | None], None],
    ) -> None:
        self._watch = watch
        self._first = first
        self._mend = mend
        self._after = after
        self._look = look
        self._told = told
        self._listening = False

    def begin(self) -> None:
        """Answer events from now on."""
        self._listen()
        self._listen_to_mounts()

    def end(self) -> None:
        """Answer no more of them."""
        self._listening = False
        self._first.end(self._watch.fileno())

    def look_at_everything(self) -> None:
        """Whatever the events said."""
        self._look(self._watch.everything(), clock())

    def _listen(self) -> None:
        self._listening = True
        self._first.begin(self._watch.fileno(), self.catch_up)

    def catch_up(self) -> None:
        """Answer what has happened. Whoever does work for others does this between two pieces."""
        if not self._listening:
            return
        now, mended = clock(), False
        for _ in range(MOST_READS):
            try:
                tags = self._watch.read()
            except OSError as error:
                self._rest(error)
                break
            if not tags:
                break
            self._mend(tags, now)
            now, mended = clock(), True
        if mended:
            self._after(now)

    def _rest(self, error: OSError) -> None:
        """Events can't be read, and what waits would have us try without end."""
        self._told("inotify", f"can't read what happened: {error}")
        self.end()
        asyncio.get_running_loop().call_later(PAUSE, self._go_on)

    def _go_on(self) -> None:
        try:
            self._listen()
        except OSError as error:
            self._rest(error)
            return
        self.look_at_everything()
        self._told("inotify", None)

    def _on_mounts(self) -> None:
        """The mount table has changed; what else changes it in the next moment is gathered."""
        began = clock()
        self._look(self._watch.moved(), began)
        self._first.end(self._watch.mounts_fileno())
        # With very many directories one look takes long: then look less often, at 2 % of the time.
        loop = asyncio.get_running_loop()
        loop.call_later(max(GATHER, 50 * (clock() - began)), self._listen_to_mounts)

    def _listen_to_mounts(self) -> None:
        try:
            self._first.begin(self._watch.mounts_fileno(), self._on_mounts)
        except OSError as error:
            self._told("mounts", f"can't hear of mounts: {error}")
            asyncio.get_running_loop().call_later(PAUSE, self._listen_to_mounts)
        else:
            self._told("mounts", None)
        # To begin to listen polls, and polling takes the news away: look once in any case.
        self._look(self._watch.moved(), clock())


def open_watch() -> Watch:
    """A Watch; UserError where none can be had."""
    try:
        return Watch()
    except OSError as error:
        raise UserError(
            f"no inotify instance to be had: {error.strerror}",
            "raise fs.inotify.max_user_instances (sysctl), or the unit's LimitNOFILE=",
        ) from None
