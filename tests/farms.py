"""A farm on a real directory, with layers, and a clock of the test's own."""

import os
from pathlib import Path

from ovl_linkd.links.farm import Farm
from ovl_linkd.links.terms import Wanted

KEEP = 3600.0
NOW = 1_000.0  # seconds after boot


class World:
    """A place with layers, and farms that are started there one after the other."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.path = top / "f"
        self.ledger = top / ".f.ovl-linkd-farm"
        self.farm = self.start()

    def start(self, boot: str = "b1", **keys: float) -> Farm:
        """As after a restart, whatever became of the farm before."""
        wanted = {"keep": KEEP, "most": 5_000, **keys}
        self.farm = Farm(
            Wanted(str(self.path), wanted["keep"], int(wanted["most"]), bool(keys.get("lasting"))),
            lambda: boot,
            bool(keys.get("before")),
        )
        return self.farm

    def layer(self, name: object) -> str:
        """The path of the layer NAME, which is there from now on."""
        path = self.top / "layers" / str(name)
        path.mkdir(parents=True, exist_ok=True)
        return str(path)

    def lease(self, *names: object, now: float = NOW) -> list[str]:
        """The ids that the layers NAMES get."""
        shorts = self.farm.lease([self.layer(name) for name in names], now)
        assert all(os.path.dirname(short) == str(self.path) for short in shorts)
        return [os.path.basename(short) for short in shorts]

    def leads(self, name: str) -> str | None:
        """The layer that the entry NAME leads to."""
        try:
            return os.path.basename(os.readlink(self.path / name))
        except FileNotFoundError:
            return None

    def trouble(self) -> str | None:
        """The state, if it is not well."""
        trouble = self.farm.status().trouble
        return trouble.state if trouble else None

    def settle(self, now: float = NOW) -> None:
        """Do all that is due until NOW, as the event loop would."""
        while (deadline := self.next(now)) is not None and deadline <= now:
            self.farm.due(now)

    def next(self, now: float) -> float | None:
        """When something is due, once everything that can be done at NOW is."""
        while self.farm.looking:
            self.farm.go_on(now)
        return self.farm.deadline()
