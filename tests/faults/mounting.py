"""mount.overlay by each of its ways: what there is to mount, and what each of them needs."""

import errno
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, cast

from ovl_linkd import published
from ovl_linkd.commands import mount_overlay
from ovl_linkd.links.link import Link
from tests.daemon.world import umount
from tests.faults.forked import Forked
from tests.faults.scene import RUN
from tests.faults.supervised import Call, Policy, Supervised, go_on

# What it imports when it needs it: here, or each fork would do it anew, and without its own modules
# no program can say anything.
for _name in ("leasing", "overlay.climbing", "text"):
    import_module(f"ovl_linkd.{_name}")


def ran(main: Callable[[], int], log: Path, policy: Policy) -> tuple[int, str]:
    """Run MAIN under POLICY: its exit code, and what it wrote."""

    def line_by_line() -> int:
        cast("io.TextIOWrapper", sys.stderr).reconfigure(line_buffering=True)
        return main()

    log.write_text("")
    code = Supervised(line_by_line, str(log), policy).wait()
    text = log.read_text()
    assert "Traceback" not in text, text
    return code, text


class Store:
    """Layers below a long path, one file in each, and a directory to mount them on."""

    def __init__(self, top: Path, layers: int, path: str) -> None:
        self.top, self.point, self.store = top, top / "m", top / path
        self.point.mkdir()
        self.files = [f"file{number:03}" for number in range(layers)]
        for number, file in enumerate(self.files):
            (self.store / str(number)).mkdir(parents=True)
            (self.store / str(number) / file).touch()

    def mount(self) -> int:
        """Mount them, and end with the exit code."""
        lower = ":".join(f"{self.store}/{number}" for number in range(len(self.files)))
        sys.argv[1:] = ["overlay", str(self.point), "-v", "-o", f"ro,lowerdir={lower}"]
        mount_overlay.script()
        raise AssertionError("it does not return")

    def mounts(self) -> int:
        """How many are at the point."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return sum(line.split()[4] == str(self.point) for line in lines)

    def take_off(self) -> None:
        """See that one mount is there, with all layers, and take it off."""
        assert self.mounts() == 1
        assert sorted(os.listdir(self.point)) == self.files
        umount(self.point)


def without_fsopen(call: Call) -> int | None:
    """The policy of a kernel before 5.2."""
    return errno.ENOSYS if call.name == "fsopen" else None


@contextmanager
def linked(store: Store) -> Iterator[None]:
    """A link that leads to the store, and what a daemon publishes of it."""
    link = Link("one", str(store.top / "l"), str(store.store))
    os.symlink(link.target, link.path)
    published.write(published.Published((link,), str(RUN / "control.sock"), []))
    try:
        yield
    finally:
        shutil.rmtree(RUN)


@contextmanager
def farmed(store: Store) -> Iterator[None]:
    """A daemon with a farm."""
    RUN.mkdir(exist_ok=True)
    farm = {"path": str(store.top / "f")}
    (RUN / "config.yaml").write_text(json.dumps({"links": {"ctrdl": None}, "farm": farm}))
    daemon = Forked(store.top, None)
    try:
        daemon.start_by_default()
        yield
        daemon.stop()
    finally:
        daemon.kill()
        shutil.rmtree(RUN)


LONG = "store" * 14


class Rung(NamedTuple):
    """So many ``layers`` below the path ``store``, which take this way on that ``kernel``.

    ``names``: what makes the short ones.
    """

    layers: int
    store: str
    kernel: Policy = go_on
    names: Callable[[Store], AbstractContextManager[None]] | None = None


RUNGS = {
    "plain": Rung(3, LONG),
    "link": Rung(70, LONG, names=linked),
    "lowerdir+": Rung(70, LONG),
    "descriptors": Rung(20, f"{LONG}/{LONG}/{LONG}/{LONG}"),
    "farm": Rung(70, LONG, without_fsopen, farmed),
    "chdir": Rung(70, LONG, without_fsopen),
}


@contextmanager
def on(rung: str, top: Path) -> Iterator[tuple[Store, Policy]]:
    """What is mounted by way of RUNG, once and for a try, and the kernel for that."""
    layers, path, kernel, names = RUNGS[rung]
    store = Store(top, layers, path)
    with ExitStack() as stack:
        if names:
            stack.enter_context(names(store))
        code, text = ran(store.mount, top / "log.m", kernel)
        assert code == 0
        assert ("as they are given" if rung == "plain" else f"by {rung}:") in text
        store.take_off()
        yield store, kernel
