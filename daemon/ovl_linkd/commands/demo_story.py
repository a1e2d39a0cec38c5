"""What the demo tells: each step really happens, and is counted, before its line is printed."""

import os
import sys

from ovl_linkd.commands import demo_daemon, demo_world
from ovl_linkd.commands.demo_daemon import CONFIG, LINK
from ovl_linkd.commands.demo_world import MERGED, SNAPSHOTS, Container
from ovl_linkd.errors import UserError
from ovl_linkd.overlay import limits, mounting

_REMOVALS = 20
_BOLD, _DIM, _RED, _GREEN = "1", "2", "31", "32"


class Telling:
    """Prints a story in steps: a headline, and under it what was found."""

    def __init__(self) -> None:
        self._coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._step = 0

    def headline(self, text: str) -> None:
        """Begin the next step."""
        self._step += 1
        self._print(f"\n{self._paint(_BOLD, f'{self._step}  {text}')}")

    def line(self, text: str) -> None:
        """Say what is so."""
        self._print(f"   {text}")

    def command(self, text: str) -> None:
        """Say what a person would type."""
        self._print(f"   {self._paint(_DIM, f'$ {text}')}")

    def good(self, text: str) -> None:
        """Say what went well."""
        self._print(f"   {self._paint(_GREEN, '✔')} {text}")

    def bad(self, text: str) -> None:
        """Say what went wrong, as it was meant to."""
        self._print(f"   {self._paint(_RED, '✘')} {text}")

    def _paint(self, colour: str, text: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._coloured else text

    def _print(self, text: str) -> None:
        print(text, flush=True)


def tell(layers: int) -> None:
    """Tell it all, with an image of that many LAYERS. Raises UserError where a step fails."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows no tick
    out = Telling()
    out.line(f"An image of {layers} layers, as containerd stores it,")
    out.line("in namespaces that end with this demo.")
    one, other = demo_world.containers(layers)
    _long_paths(out, one, other)
    _daemon(out)
    _short_paths(out, other)
    _cleaner(out, other)
    _status(out)
    out.line("")
    out.line("The namespaces end here, and with them the daemon, the link and every mount.")


def _long_paths(out: Telling, one: Container, other: Container) -> None:
    read = limits.of_this_kernel().mount
    out.headline("Two containers of it are mounted by their layers' own, long paths")
    out.line(f"{SNAPSHOTS}/{one.own}/fs, and so on.")
    out.line(f"mount(2) reads {read:,} bytes of options and drops the rest without an error.")
    for container in (one, other):
        _long_path(out, container)


def _long_path(out: Telling, container: Container) -> None:
    options = container.options()
    number = demo_world.mount_uncut(options)
    given = f"{len(options):,} bytes given:"
    if number:
        out.bad(f"{given} {os.strerror(number)}, though every layer is there")
        return
    seen = demo_world.look(container)
    mounting.umount(MERGED)
    total = len(container.ids)
    if seen.layers == total:
        out.good(f"{given} all {total} layers, because this machine's pages are larger")
        return
    lost = total - seen.layers
    out.bad(f"{given} “success”, with {seen.layers} of {total} layers. The other {lost},")
    out.line("  the base of the image among them, are not there, and nobody is told.")


def _daemon(out: Telling) -> None:
    out.headline("The daemon keeps a short name for where the layers are")
    demo_daemon.configure()
    out.command(f"ovl-linkd run --config {CONFIG}")
    took = demo_daemon.start()
    out.good(f"ready after {took * 1000:.0f} ms, and kept from now on:")
    out.line(f"  {LINK} -> {os.readlink(LINK)}")


def _short_paths(out: Telling, container: Container) -> None:
    out.headline("The second container again, its options rewritten")
    options = container.options()
    out.command("ovl-linkd rewrite index=off,workdir=/var/lib/containerd/io.containerd.snap…")
    short = demo_daemon.call("rewrite", os.fsdecode(options)).removesuffix(b"\n")
    out.line(f"{os.fsdecode(short[:80])}…")
    mounting.mount_overlay("overlay", MERGED, short)
    seen = _whole(container)
    with open(f"{MERGED}/new", "w"):
        pass
    out.good(
        f"{len(options):,} bytes became {len(short):,}: mounted, "
        f"{seen} of {seen} layers, each in its place, and writable"
    )


def _whole(container: Container) -> int:
    """Count the layers that are mounted. Raises UserError unless all are there, in order."""
    seen = demo_world.look(container)
    if seen.layers != len(container.ids) or not seen.in_order:
        raise UserError(f"only {seen.layers} of {len(container.ids)} layers were mounted in order")
    return seen.layers


def _cleaner(out: Telling, container: Container) -> None:
    out.headline("A cleaner takes the link for an old file")
    watch = demo_daemon.Watch()
    out.command(demo_daemon.clean(watch))
    took = demo_daemon.last_repair()["took_us"]
    out.good(f"{LINK} was removed, and put back by the daemon in {took:,} µs")
    gone = demo_daemon.remove_again(watch, _REMOVALS)
    median, longest = gone[len(gone) // 2] * 1e6, gone[-1] * 1e6
    out.good(
        f"removed by rm {_REMOVALS} times more: gone for {median:,.0f} µs (median), "
        f"{longest:,.0f} µs at most"
    )
    out.good(f"the mounted container never noticed: all {_whole(container)} layers are there")


def _status(out: Telling) -> None:
    out.headline("What an operator sees")
    out.command(f"ovl-linkd status --config {CONFIG}")
    demo_daemon.show("status")
