"""A daemon with a farm, over the real socket; and what clears such directories."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ovl_linkd import client
from ovl_linkd.published import Published
from tests.daemon.world import Daemon
from tests.waiting import wait_until

Json = dict[str, Any]


class Farm:
    """A daemon with a farm, and layers to lease."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.path = daemon.directory / "f"
        self.ledger = daemon.directory / ".f.ovl-linkd-farm"
        self.store = daemon.directory / "store"
        self.known = Published((), daemon.socket, [], str(self.path))

    def configure(self, **keys: Any) -> None:
        """Write a configuration of no links and this farm; KEYS with `_` for `-`."""
        farm = {"path": str(self.path)} | {k.replace("_", "-"): v for k, v in keys.items()}
        self.daemon.write({}, farm=farm)

    def layers(self, count: int) -> list[str]:
        """COUNT directories."""
        paths = [self.store / str(number) / "fs" for number in range(count)]
        for path in paths:
            path.mkdir(parents=True, exist_ok=True)
        return list(map(str, paths))

    def lease(self, *paths: str) -> list[str]:
        """Short paths for PATHS, by the socket."""
        found: list[str] = self.daemon.call("Lease", paths=list(paths))["paths"]
        return found

    def refused(self, *paths: str) -> tuple[str, Json]:
        """The error, and its parameters, that asking for PATHS ends in."""
        with pytest.raises(client.CallError) as caught:
            self.daemon.call("Lease", paths=list(paths))
        return caught.value.name, caught.value.parameters

    def status(self) -> Json:
        """What the daemon says of it."""
        found: Json = self.daemon.call("Status")["farm"]
        return found

    def until(self, wanted: Callable[[Json], object], what: str) -> Json:
        """Wait until it is as WANTED says."""
        return wait_until(lambda: status if wanted(status := self.status()) else None, what)

    def until_right(self, leased: dict[str, str]) -> None:
        """Wait until each short path leads to its layer."""
        for short, layer in leased.items():
            wait_until(partial(_leads, short, layer), f"{short} -> {layer}")


def _leads(short: str, layer: str) -> bool:
    try:
        return os.readlink(short) == layer
    except OSError:
        return False


Cleaner = Callable[[Path], list[str | Path]]


def _rules(name: str, line: str) -> Cleaner:
    def words(place: Path) -> list[str | Path]:
        rules = place.parent / "rules.conf"
        rules.write_text(line.replace("DIR", str(place)) + "\n")
        return ["systemd-tmpfiles", name, rules]

    return words


_TMPWATCH = Path(__file__).with_name("tmpwatch.py")
CLEANERS: dict[str, Cleaner] = {
    "tmpfiles --clean": _rules("--clean", "d DIR - - - am:10d"),
    "tmpfiles --remove R": _rules("--remove", "R DIR/f"),
    "tmpfiles --remove D": _rules("--remove", "D DIR"),
    "tmpreaper": lambda place: ["tmpreaper", "--symlinks", "1d", place],
    "tmpwatch": lambda place: [sys.executable, "-I", _TMPWATCH, "24", place],
    "find -delete": lambda place: ["find", place, "-mindepth", "1", "-delete"],
    "rm -rf": lambda place: ["rm", "-rf", place / "f", place / ".f.ovl-linkd-farm"],
}
