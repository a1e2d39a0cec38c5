"""What the service manager is told in the course of a daemon's life, sd_notify(3)."""

import asyncio
import time

from ovl_linkd.service.systemd import notify, watchdog_interval
from ovl_linkd.service.troubles import PAUSE


class Manager:
    """The service manager, if there is one. Nothing is waited for, but what it waits for itself."""

    def __init__(self) -> None:
        self._status = ""  # that it was told last

    def ready(self) -> None:
        """Say that we are, until it is heard: a service manager that waits in vain kills us."""
        if not notify("READY=1", certain=True):
            asyncio.get_running_loop().call_later(PAUSE, self.ready)

    def reloading(self) -> None:
        """Say that we read the configuration anew; ready() when that is done, well or not."""
        now = time.monotonic_ns() // 1000
        notify("RELOADING=1", f"MONOTONIC_USEC={now}", certain=True)

    def stopping(self) -> None:
        """Say that we come to an end."""
        notify("STOPPING=1")

    def status(self, text: str) -> None:
        """Say how things are, unless TEXT was what it heard last."""
        if text != self._status and notify(f"STATUS={text}"):
            self._status = text

    def feed_watchdog(self) -> None:
        """Say from now on, by the loop that repairs, that it isn't stuck."""
        if interval := watchdog_interval():
            notify("WATCHDOG=1")
            asyncio.get_running_loop().call_later(interval, self.feed_watchdog)
