"""The daemon's configuration: which files it was read from, and how it is read anew."""

import asyncio
import logging
from collections.abc import Callable

from ovl_linkd import config_files
from ovl_linkd.config import Config, ConfigError, apart
from ovl_linkd.service.manager import Manager
from ovl_linkd.service.report import event
from ovl_linkd.service.wire import Problem, Refused


class Loading:
    """Reads FILE, or the standard places if it is None. Raises ConfigError, the first time.

    ``first`` is what was read then, ``stamp`` that of the files in force (config_files).
    ``take`` is called with each configuration that is read anew, ``failed`` for one that is faulty.
    """

    def __init__(
        self,
        file: str | None,
        log: logging.Logger,
        manager: Manager,
        take: Callable[[Config], None],
        failed: Callable[[], None],
    ) -> None:
        self._file = file
        self._log = log
        self._manager = manager
        self._take = take
        self._failed = failed
        self._one_by_one = asyncio.Lock()
        self._hangup: asyncio.Task[None] | None = None
        self.stamp = config_files.stamp(file)
        self.first = apart.load(file)

    @property
    def outdated(self) -> bool:
        """Whether the files have changed since they were read."""
        return config_files.stamp(self._file) != self.stamp

    def on_hangup(self) -> None:
        """As reload(), for nobody who would hear of the outcome."""
        self._hangup = asyncio.create_task(self._reload_for_nobody())

    async def _reload_for_nobody(self) -> None:
        try:
            await self.reload()
        except Refused:
            pass  # said in the log
        except Exception as error:  # nobody ever asks the task how it ended
            self._log.exception("configuration not loaded: %s", error, extra=event("reload-failed"))

    async def reload(self) -> None:
        """Read the configuration anew; Refused if it is faulty, and nothing changes."""
        async with self._one_by_one:
            self._manager.reloading()
            try:
                await self._reload()
            finally:
                self._manager.ready()

    async def _reload(self) -> None:
        stamp = config_files.stamp(self._file)
        try:
            wanted = await read_config(self._file)
        except ConfigError as error:
            for problem in error.problems:
                text = "configuration not loaded, everything stays as it was: %s"
                at = event("reload-failed", FILE=problem.file, LINE=str(problem.line))
                self._log.error(text, problem, extra=at)
            self._failed()
            raise Refused([Problem(*found) for found in error.problems]) from None
        self.stamp = stamp
        self._take(wanted)


async def read_config(file: str | None) -> Config:
    """As config.load(), by a child process; the links are kept meanwhile. Raises ConfigError."""
    try:
        return await _read(file)
    except OSError as error:
        raise apart.no_child(file, error) from None


async def _read(file: str | None) -> Config:
    loop = asyncio.get_running_loop()
    reading = apart.Reading(file)
    whole = loop.create_future()

    def take() -> None:
        try:
            if not reading.more():
                whole.set_result(None)
        except OSError as error:
            whole.set_exception(error)

    try:
        loop.add_reader(reading, take)
        try:
            await whole
        finally:
            loop.remove_reader(reading)
    except BaseException:
        reading.abandon()
        raise
    return reading.outcome()
