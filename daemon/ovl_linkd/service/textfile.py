"""A file for node_exporter's textfile collector: replaced as a whole, and not at every change."""

import asyncio
import os
import time
from collections.abc import Callable

from ovl_linkd.replacing import replace

PAUSE = 1.0  # seconds, at least, in which changes are gathered before the file is written


class Textfile:
    """Keeps the file at ``path`` saying what ``text`` returns; with None there is no file.

    ``told`` is called with the path and what is wrong, or None after a success.
    """

    def __init__(self, text: Callable[[], str], told: Callable[[str, str | None], None]) -> None:
        self.path: str | None = None
        self._text = text
        self._told = told
        self._timer: asyncio.TimerHandle | None = None
        self._pause = PAUSE

    def move(self, path: str | None) -> None:
        """Write to PATH from now on; a file that is written no more goes away."""
        if self.path and self.path != path:
            _remove(self.path)
        self.path = path
        self.soon()

    def soon(self) -> None:
        """Write after a pause, unless that is already to be."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause, self.write)

    def write(self) -> None:
        """Write now."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self.path is None:
            return
        began = time.monotonic()
        try:
            replace(self.path, self._text())
        except OSError as error:
            self._told(self.path, f"no metrics: {error}")
        else:
            self._told(self.path, None)
        # With very many links, or on a slow disk, that takes long: then at 2 % of the time.
        self._pause = max(PAUSE, 50 * (time.monotonic() - began))


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
