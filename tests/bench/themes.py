"""The themes of `make bench`, in the order of the page: what each is about, and who measures it."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.bench import (
    catching,
    farming,
    helping,
    idling,
    layers,
    links,
    mounting_time,
    peers,
    planning,
    restoring,
    rewriting,
    sandbox,
    starting,
)
from tests.bench.figures import Figure


class Theme(NamedTuple):
    """``measure`` takes the effort, 1 for figures to print, less for a look whether it works."""

    title: str
    about: str
    measure: Callable[[float], Iterator[Figure]]
    pivot: bool = False  # a column for each series of figures


THEMES = {
    "restoring": Theme(
        "A removed link is back",
        "From before unlink(2) to when the link is there again, as another processor sees it, in "
        "turn for the daemon and for a minimal C program (inotify and symlink(2), nothing else). "
        "With a millisecond between removals what both need is still in the processor's caches; "
        "after 20 ms of rest it isn't. During a flood, a stranger on the other processor does what "
        "he can at the control socket: connections without end, calls by the hundred, halves of "
        "messages, huge ones, and no answer ever read; who measures and the daemon then go before "
        "all others (SCHED_FIFO).",
        restoring.measure,
    ),
    "peers": Theme(
        "Beside what people keep links with",
        "All of them in one booted systemd, on one processor, a removed link in turn from each, "
        "after some 0.2 s of rest. Ratios are to the C program among them.",
        peers.measure,
    ),
    "links": Theme(
        "From one link to ten thousand",
        "The start where none of the links is there, all of them removed one right after the "
        "other, memory after the start, and what a file that comes and goes in the same directory "
        "costs.",
        links.measure,
    ),
    "layers": Theme(
        "Layers that fit, and mount",
        "The most lower layers, beside an upperdir and a workdir under the same root, that were "
        "mounted and then all there, by how long their names are. The kernel takes 500.",
        layers.measure,
        pivot=True,
    ),
    "mounting": Theme(
        "The time of a mount",
        "The system calls alone, from the options at hand to the mount, for containerd's names of "
        "three digits with upperdir and workdir; each way in turn.",
        mounting_time.measure,
        pivot=True,
    ),
    "helping": Theme(
        "mount(8) with mount.overlay",
        "From exec of mount(8) to its end, with the helper and without it in turn: what the helper "
        "adds, in starts of a Python that does nothing. Two layers it hands straight back. Then "
        "mounts that mount(8) could not make without it, beside the quickest way by system calls "
        "alone.",
        helping.measure,
    ),
    "planning": Theme(
        "Planning",
        "plan() beside the mount(2) that its result is for.",
        planning.measure,
    ),
    "rewriting": Theme(
        "Rewriting",
        "Options as containerd writes them, through the packaged link: by the Python API, by the "
        "daemon's socket (a connection each), and a large fstab through the command, start "
        "included.",
        rewriting.measure,
    ),
    "farming": Theme(
        "A farm of up to a hundred thousand entries",
        "A request by the daemon's socket, a connection each, while so many entries are kept; the "
        "start of a daemon that takes them up; and the directory moved away, until the daemon has "
        "counted every entry as put right.",
        farming.measure,
    ),
    "catching": Theme(
        "Programs that can't be changed",
        "A C program's calls of mount(2), without `ovl-linkd exec` and below it, in turn: calls "
        "that don't concern it, and overlays whose options it has to shorten.",
        catching.measure,
    ),
    "starting": Theme(
        "Commands",
        "From exec to exit, in turn with a Python that does nothing.",
        starting.measure,
    ),
    "idling": Theme(
        "While nothing happens, and in a fight",
        "The daemon with its packaged configuration: alone, on a machine full of other mounts, and "
        "beside somebody who replaces its link a thousand times a second.",
        idling.measure,
    ),
    "sandbox": Theme(
        "What the services leave open",
        "What systemd-analyze(1) makes of the units of this systemd, from 0 to 10, less being "
        "better, beside units of systemd's own.",
        sandbox.measure,
    ),
}
