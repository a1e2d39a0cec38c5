"""The counters, as text for monitoring: values in, OpenMetrics out. Nothing is written here.

Written by hand and not by prometheus_client: that would cost the daemon 3.8 MiB, a quarter of its
memory, 17 ms of its start, and the ssl module that it does without, for forty lines of text.

The text keeps to what OpenMetrics and the older Prometheus text format have in common, because
node_exporter's textfile collector knows only the latter: gauges, counters and histograms, no other
types, no timestamps. A counter's name is declared without `_total`, as OpenMetrics wants it; by way
of node_exporter its type is then "untyped", which no query minds.
"""

import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ovl_linkd.links.history import Change, Status
from ovl_linkd.links.link import Link
from ovl_linkd.links.terms import Status as FarmStatus
from ovl_linkd.overlay.limits import Limits, capacity, of_this_kernel
from ovl_linkd.supervisors import Supervisor
from ovl_linkd.text import printable

STATES = ("ok", "dangling", "missing", "wrong", "blocked", "waiting", "failing")

#: seconds, upper bounds of the histogram of repair times
BUCKETS = (
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1.0,
)  # fmt: skip


class Layers(NamedTuple):
    """How many layers one mount(2) takes below the link, by the long and by the short name."""

    link: str
    plain: int
    short: int


class Moment(NamedTuple):
    """What is so when the text is made; ``now`` in seconds since 1970, the interval in seconds."""

    now: float
    statuses: Sequence[Status]
    overflows: int
    unwatched: int
    resync_interval: float
    farm: FarmStatus | None = None
    supervisors: Sequence[Supervisor] = ()


class Metrics:
    """Counts what happens. ``labels`` stand on each sample; ``started`` is seconds since 1970."""

    def __init__(self, version: str, started: float, labels: Mapping[str, str]) -> None:
        self._labels = "".join(f",{name}={_quoted(value)}" for name, value in labels.items())
        self._started = started
        self._version = version
        self._repairs = {"missing": 0, "wrong": 0}
        self._took = [0] * (len(BUCKETS) + 1)
        self._took_sum = 0.0
        self._reloads = {"ok": 0, "failed": 0}
        self._reloaded = True
        self._layers = ""

    def changed(self, changes: Iterable[Change]) -> None:
        """Count the repairs in CHANGES."""
        for change in changes:
            if repair := change.repair:
                self._repairs[repair.found] += 1
                self._took[bisect_left(BUCKETS, repair.took)] += 1
                self._took_sum += repair.took

    def reloaded(self, well: bool) -> None:
        """The configuration was read anew, or could not be."""
        self._reloads["ok" if well else "failed"] += 1
        self._reloaded = well

    def kept(self, links: Iterable[Layers]) -> None:
        """These links are kept from now on. Their lines are made once: there may be thousands."""
        samples: list[tuple[str, float]] = []
        for link in links:
            name = _quoted(link.link)
            samples.append((f'link={name},names="plain"', link.plain))
            samples.append((f'link={name},names="short"', link.short))
        self._layers = self._family(
            "link_layers", "gauge", "Lower layers that one mount(2) takes below the link.", samples
        )

    def text(self, moment: Moment) -> str:
        """Everything, as a whole file."""
        parts = [*self._about_links(moment), *self._about_the_farm(moment.farm)]
        parts += [*self._about_exec(moment.supervisors), *self._about_the_daemon(moment)]
        return "".join([*parts, "# EOF\n"])

    def _about_links(self, moment: Moment) -> Iterable[str]:
        states = dict.fromkeys(STATES, 0)
        fights = 0
        for status in moment.statuses:
            states[status.state] += 1
            fights += status.fighting
        yield self._family("links", "gauge", "Kept links by state.", _by("state", states))
        yield self._one("links_fighting", "Links that somebody keeps replacing.", fights)
        yield self._layers
        yield self._family(
            "repairs", "counter", "Links put right, by what was found.", _by("found", self._repairs)
        )
        yield self._histogram(
            "repair_duration_seconds", "Time from the event until the link was right."
        )

    def _about_the_farm(self, farm: FarmStatus | None) -> Iterable[str]:
        if farm is None:
            return
        yield self._one("farm_well", "Whether the farm is as it should be.", not farm.trouble)
        yield self._one("farm_entries", "Short links in the farm.", farm.entries)
        yield self._one("farm_most_entries", "As many as there may be.", farm.wanted.most)
        for name, explained, count in (
            ("farm_leases", "Layers for which a short link was asked.", farm.leases),
            ("farm_expiries", "Short links that went because nobody asked.", farm.expiries),
            ("farm_repairs", "Short links that were put right.", farm.repairs),
        ):
            yield self._family(name, "counter", explained, [("", count)])

    def _about_exec(self, supervisors: Sequence[Supervisor]) -> Iterable[str]:
        """Each supervisor counts for itself, from its start, and takes its counts with it."""
        yield self._one("exec_supervisors", "Supervisors of ovl-linkd exec.", len(supervisors))
        if not supervisors:
            return
        samples: list[tuple[str, float]] = []
        for each in supervisors:
            name = os.path.basename(each.command[0]) if each.command else ""
            whose = f'command={_quoted(name)},pid="{each.pid}"'
            untouched = each.seen - each.rewritten - each.refused
            outcomes = {
                "untouched": untouched,
                "rewritten": each.rewritten,
                "refused": each.refused,
            }
            samples += [(f"{whose},{by}", count) for by, count in _by("outcome", outcomes)]
        yield self._family(
            "exec_calls", "counter", "Calls of mount(2) that exec looked at, by outcome.", samples
        )

    def _about_the_daemon(self, moment: Moment) -> Iterable[str]:
        yield self._family(
            "watch_overflows",
            "counter",
            "Times that inotify's queue was full and everything was looked at.",
            [("", moment.overflows)],
        )
        yield self._one(
            "unwatched_directories",
            "Directories below which changes are seen only at a resync.",
            moment.unwatched,
        )
        yield self._one("resync_interval_seconds", "Time between resyncs.", moment.resync_interval)
        yield self._family(
            "config_reloads",
            "counter",
            "Times that the configuration was read anew, by outcome.",
            _by("outcome", self._reloads),
        )
        yield self._one(
            "config_last_reload_successful",
            "Whether the configuration on disk was taken when it was last read.",
            self._reloaded,
        )
        yield self._family(
            "build_info",
            "gauge",
            "1, labelled with the version.",
            [(f"version={_quoted(self._version)}", 1)],
        )
        yield self._one("start_time_seconds", "Start of the daemon, since 1970.", self._started)
        yield self._one(
            "written_timestamp_seconds",
            "When this was written, since 1970: old if the daemon is dead.",
            moment.now,
        )

    def _one(self, name: str, explained: str, value: float) -> str:
        return self._family(name, "gauge", explained, [("", value)])

    def _family(
        self, name: str, kind: str, explained: str, samples: Iterable[tuple[str, float]]
    ) -> str:
        """One metric; SAMPLES are labels and values."""
        name = f"ovl_linkd_{name}"
        suffix = "_total" if kind == "counter" else ""
        lines = [f"# HELP {name} {explained}", f"# TYPE {name} {kind}"]
        lines += [self._sample(f"{name}{suffix}", labels, value) for labels, value in samples]
        return "\n".join(lines) + "\n"

    def _histogram(self, name: str, explained: str) -> str:
        name = f"ovl_linkd_{name}"
        lines = [f"# HELP {name} {explained}", f"# TYPE {name} histogram"]
        count = 0
        for most, bound in enumerate([*map(repr, BUCKETS), "+Inf"]):
            count += self._took[most]
            lines.append(self._sample(f"{name}_bucket", f'le="{bound}"', count))
        lines.append(self._sample(f"{name}_sum", "", self._took_sum))
        lines.append(self._sample(f"{name}_count", "", count))
        return "\n".join(lines) + "\n"

    def _sample(self, name: str, labels: str, value: float) -> str:
        whole = f"{labels}{self._labels}".removeprefix(",")
        sample = f"{name}{{{whole}}}" if whole else name
        return f"{sample} {round(value, 6)!r}"


def layers(links: Iterable[Link], limits: Limits | None = None) -> Iterable[Layers]:
    """The Layers of LINKS on a kernel that takes LIMITS; on this one if they are None."""
    limits = limits or of_this_kernel()
    for link in links:
        plain = capacity(os.fsencode(link.target), limits)
        yield Layers(link.name, plain, capacity(os.fsencode(link.path), limits))


def _by(label: str, counts: Mapping[str, int]) -> list[tuple[str, float]]:
    return [(f"{label}={_quoted(value)}", count) for value, count in counts.items()]


def _quoted(value: str) -> str:
    """VALUE as a label's value. What isn't printable, or no UTF-8, is escaped for people first."""
    text = printable(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
