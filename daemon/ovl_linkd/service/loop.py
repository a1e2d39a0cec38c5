"""The daemon: events in, the keeper's repairs done at once, then everything that talks about it."""

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import Collection

from ovl_linkd import __version__, published, supervisors
from ovl_linkd.config import Config
from ovl_linkd.errors import UserError
from ovl_linkd.links.history import Change, Outcome, Status
from ovl_linkd.links.keeper import Keeper
from ovl_linkd.service import control
from ovl_linkd.service.clock import clock, wall
from ovl_linkd.service.farming import TAG, Farming
from ovl_linkd.service.first import First
from ovl_linkd.service.loading import Loading
from ovl_linkd.service.manager import Manager
from ovl_linkd.service.metrics import Metrics, Moment, layers
from ovl_linkd.service.peer import Peer
from ovl_linkd.service.publishing import Publication
from ovl_linkd.service.report import WINDOW, Report, event, summary
from ovl_linkd.service.rewriting import rewrite
from ovl_linkd.service.socket import Connection, ControlSocket
from ovl_linkd.service.subscription import Followers
from ovl_linkd.service.systemd import open_log, passed_socket
from ovl_linkd.service.textfile import Textfile
from ovl_linkd.service.troubles import Paced, Troubles
from ovl_linkd.service.turns import Turns
from ovl_linkd.service.watching import Watching, open_watch
from ovl_linkd.service.wire import Daemon, Rewritten

OWN = ".own"  # the watch's tag for our own files; no link has such a name


class Service:
    """One daemon: the keeper and the watch, and what connects them with the world."""

    def __init__(self, config_file: str | None) -> None:
        """Read the configuration (raises config.ConfigError), open inotify (UserError)."""
        self._log = open_log()
        self._manager = Manager()
        self._report = Report(self._log)
        self._began = clock()
        labels = {"config": config_file} if config_file else {}
        self._metrics = Metrics(__version__, time.time(), labels)
        self._textfile = Textfile(self._exposition, self._report.once)
        self._loading = Loading(
            config_file, self._log, self._manager, self._on_loaded, self._on_faulty
        )
        self._config = self._loading.first
        before = published.read() if config_file is None else None
        kept = {link.path: link.target for link in before.links} if before else {}
        self._keeper = Keeper(clock, kept)
        self.farming = Farming(self._report, self._on_farm, before and before.farm)
        self._publication = Publication(config_file is None, self._report.once)
        self._watch = open_watch()
        self._first = First()
        self._watching = Watching(
            self._watch,
            self._first,
            self._mend,
            self._after_mending,
            self._look,
            self._report.once,
        )
        self._outcomes: list[Outcome] = []  # that nobody was told of
        self._own_changed = False
        self.followers = Followers()
        self._turns = Turns(self.catch_up)
        self._socket = ControlSocket(self._config.control_socket, self._attach, self._let_in)
        self._timer: asyncio.TimerHandle | None = None
        self._next_resync: asyncio.TimerHandle | None = None
        self._flush: asyncio.TimerHandle | None = None
        self._tend = Paced(self._put_back)
        self._stop = asyncio.Event()
        self._gave_up: UserError | None = None

    def event_loop(self) -> asyncio.AbstractEventLoop:
        """A loop to run() in, once. Raises OSError."""
        return asyncio.SelectorEventLoop(self._first)

    async def run(self) -> None:
        """Keep the links until SIGTERM or SIGINT. Raises UserError if it gave up before."""
        loop = asyncio.get_running_loop()
        troubles = Troubles(
            self._log, control.is_a_client_s, self._watching.look_at_everything, self._give_up
        )
        self._hear_signals(loop)
        loop.set_exception_handler(troubles)
        self._open_socket()
        self._want(self._config)
        self._watching.begin()
        self._socket.serve()
        self._publish()
        self._textfile.write()
        self._manager.feed_watchdog()
        gc.collect()
        gc.freeze()  # what start-up made lives as long as the daemon: no collection looks again
        self._manager.ready()
        await self._stop.wait()
        self._manager.stopping()
        await self._say_goodbye()
        self._report.flush()
        if self._gave_up:
            raise self._gave_up
        self._log.info("stopped; the links stay")

    def _hear_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raises OSError, which asyncio has as a RuntimeError here."""
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop.set)
            loop.add_signal_handler(signal.SIGHUP, self._loading.on_hangup)
        except RuntimeError as error:
            raise error.__context__ or error from None

    def _give_up(self, why: UserError) -> None:
        self._gave_up = why
        self._stop.set()

    async def _say_goodbye(self) -> None:
        """End every Monitor with a last reply, as far as its client takes it, and close."""
        self.followers.end()
        for _ in range(10):
            await asyncio.sleep(0)  # a turn of the loop each, no time
        self._watching.end()  # or the socket would be put back
        self._socket.close()

    # -- events: the repair first, then the rest ----------------------------------------------

    def _mend(self, tags: Collection[str], now: float) -> None:
        self._outcomes += self._keeper.mend(tags, now)
        self.farming.mend(tags, now)
        self._own_changed |= OWN in tags

    def _after_mending(self, now: float) -> None:
        outcomes, self._outcomes = self._outcomes, []
        self._tell(self._keeper.record(outcomes, now))
        if self._own_changed:
            self._own_changed = False
            self._tend()

    def _look(self, tags: Collection[str], now: float) -> None:
        changes = self._keeper.look(tags, now)
        self.farming.mend(tags, now)
        self._tell(changes)

    def _on_timer(self) -> None:
        now = clock()
        self._look(self._keeper.due(now), now)

    def _resync(self) -> None:
        self._resync_later()
        self._watching.look_at_everything()
        self._tend()
        self._textfile.write()

    def _put_back(self) -> None:
        """Put back what is ours and was removed: what cleans links away takes sockets, too."""
        try:
            self._socket.ensure()
            self._report.once(self._socket.path, None)
        except (OSError, UserError) as error:
            self._report.once(self._socket.path, f"no control socket: {error}")
        self._publication.ensure()
        self.farming.tend()

    def _resync_later(self) -> None:
        if self._next_resync:
            self._next_resync.cancel()
        loop = asyncio.get_running_loop()
        self._next_resync = loop.call_later(self._config.resync_interval, self._resync)

    def _tell(self, changes: list[Change]) -> None:
        """Everything that comes after the repair."""
        self._plan_timer()
        if self._report.unwatched(self._watch.unwatched, self._config.resync_interval):
            self._tell_summary()
        if not changes:
            return
        self._report.tell(changes, clock())
        self._metrics.changed(changes)
        self._textfile.soon()
        self._flush_later()
        self.followers.add(change.after.link.name for change in changes)
        self._tell_summary()

    def _on_farm(self, news: bool) -> None:
        self._textfile.soon()
        if news:
            self._flush_later()
            self._tell_summary()

    def _flush_later(self) -> None:
        if self._report.unsaid() and self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(WINDOW, self._flush_report)

    def _tell_summary(self) -> None:
        self._manager.status(self._summary())

    def _flush_report(self) -> None:
        self._flush = None
        self._report.flush()

    def _summary(self) -> str:
        unwatched = len(self._watch.unwatched)
        return summary(self._keeper.statuses(), unwatched, self.farming.state())

    def _plan_timer(self) -> None:
        deadline = self._keeper.deadline()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, deadline - clock()), self._on_timer)

    # -- configuration ------------------------------------------------------------------------

    def _want(self, wanted: Config) -> None:
        """Keep the links of WANTED from now on."""
        gone = self._keeper.want(wanted.links)
        # Watch first, then look: what happens in between makes an event.
        ways = [(link.path, link.name, False) for link in wanted.links]
        ways += [(link.target, link.name, True) for link in wanted.links]
        self.farming.want(wanted.farm)
        own = [self._socket.path, *self._publication.paths, *self.farming.own_files()]
        ways += [(path, OWN, False) for path in own]
        self._watch.follow(ways, self.farming.directories())
        for link, error in self._keeper.sweep():
            self._log.warning("%s: %s, ignoring", link.path, error)
        self._config = wanted
        self._resync_later()
        self._look((*self._keeper.names, TAG), clock())
        self._tell_summary()  # also where nothing changed but which links are kept
        self._metrics.kept(layers(wanted.links))
        self._textfile.move(wanted.metrics_file)
        for link in gone:
            self._report.gone(link.path)

    def _on_loaded(self, wanted: Config) -> None:
        """WANTED takes the place of the configuration that was."""
        if wanted.control_socket != self._config.control_socket:
            self._log.warning("control-socket: changed; it moves at the next restart, ignoring")
        self._want(wanted)
        self._publish()
        self._metrics.reloaded(True)
        self._log.info("configuration loaded: %s", self._summary(), extra=event("loaded"))

    def _on_faulty(self) -> None:
        self._metrics.reloaded(False)
        self._textfile.soon()

    # -- what the control socket asks (wire.Service) ---------------------------------------

    def catch_up(self) -> None:
        """Put right what needs it before anything else is done."""
        self._watching.catch_up()

    def daemon(self) -> Daemon:
        """This process."""
        return Daemon(os.getpid(), __version__, wall(self._began), self._loading.outdated)

    async def reload(self) -> None:
        """Read the configuration anew; Refused if it is faulty, and nothing changes."""
        await self._loading.reload()

    def statuses(self, names: Collection[str]) -> list[Status]:
        """The links NAMES, or all if there are none."""
        every = self._keeper.statuses()
        return [status for status in every if status.link.name in names] if names else every

    def repair(self, names: list[str], adopt: bool) -> list[Status]:
        """Put the links NAMES, or all, right now; how they are then."""
        wanted = names or list(self._keeper.names)
        self._tell(self._keeper.insist(wanted, clock(), adopt))
        if not names:
            self.farming.mend([TAG], clock())
        return self.statuses(names)

    def rewrite(self, options: str, when: str) -> Rewritten:
        """Shorten OPTIONS by the links that are well, and by what lies in the farm.

        Raises ValueError if they are malformed.
        """
        return rewrite(self._keeper.statuses(), self.farming, options, when)

    # -- edges --------------------------------------------------------------------------------

    def _attach(self, connection: socket.socket, peer: Peer) -> Connection:
        return control.attach(self, self._turns, connection, peer)

    def _let_in(self, trouble: str | None) -> None:
        self._report.once("clients", trouble)

    def _open_socket(self) -> None:
        """Open the control socket. A daemon that can't be asked still keeps its links."""
        try:
            self._socket.open(passed_socket(self._socket.path))
        except OSError as error:
            self._report.once(self._socket.path, f"no control socket: {error}")

    def _publish(self) -> None:
        config = self._config._replace(control_socket=self._socket.path)
        self._publication.write(published.of(config, self._loading.stamp))

    def _exposition(self) -> str:
        watch, interval = self._watch, self._config.resync_interval
        unwatched, farm = len(watch.unwatched), self.farming.status()
        statuses, served = self._keeper.statuses(), supervisors.running()
        moment = Moment(time.time(), statuses, watch.overflows, unwatched, interval, farm, served)
        return self._metrics.text(moment)
