"""The pictures of the page: SVG whose text is text, light or dark as the reader's screen is.

The only module that imports matplotlib. The same figures make the same bytes.
"""

import io
import re
from collections.abc import Callable, Sequence
from math import ceil, floor, log10

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, NullFormatter

from tests.bench import links
from tests.bench.figures import Figure, number

_INK, _PAPER = "#1f2328", "#ffffff"
_OURS, _LOOP, _OTHERS = "#1a7f9c", "#d1843a", "#9aa4af"
_WAYS = (_OTHERS, _OURS, "#6bb38a", _LOOP, "#7a5ea8", "#c4607d", "#b9a23b", "#5b6b7c", "#3f8f5f")
# A picture in an <img> can't know the page's colours, but it can bring both of its own along.
_STYLE = """
svg { color: #1f2328; }
@media (prefers-color-scheme: dark) {
  svg { color: #e6edf3; }
  #paper path { fill: #0d1117 !important; }
}
"""
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "ovl-linkd",
        "font.size": 10,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "xtick.color": _INK,
        "ytick.color": _INK,
        "grid.color": _INK,
        "grid.alpha": 0.15,
        "figure.facecolor": _PAPER,
        "axes.facecolor": "none",
        "legend.frameon": False,
    }
)


def _svg(canvas: Canvas) -> str:
    """CANVAS as a file that says the same on every machine and every day."""
    canvas.patch.set_gid("paper")
    text = io.StringIO()
    canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawn = (
        text.getvalue().replace(_INK, "currentColor").replace("</style>", f"{_STYLE}</style>", 1)
    )
    return "\n".join(re.sub(r" +$", "", line) for line in drawn.splitlines()) + "\n"


def peers(figures: Sequence[Figure]) -> str:
    """How long a removed link is gone: a bar a keeper, on a logarithmic scale."""
    bars = sorted((each for each in figures if each.unit == "µs"), key=lambda each: -each.ours.p50)
    canvas = Canvas(figsize=(8, 0.42 * len(bars) + 0.9), layout="constrained")
    axes = canvas.subplots()
    colours = [{"ovl-linkd": _OURS, "C loop": _LOOP}.get(each.what, _OTHERS) for each in bars]
    names = [each.what for each in bars]
    medians = [each.ours.p50 for each in bars]
    low = [each.ours.p50 - each.ours.p25 for each in bars]
    high = [each.ours.p75 - each.ours.p50 for each in bars]
    axes.barh(names, medians, color=colours, height=0.62)
    axes.errorbar(
        medians, names, xerr=[low, high], fmt="none", ecolor=_INK, elinewidth=0.8, alpha=0.6
    )
    for row, each in enumerate(bars):
        axes.text(each.ours.p75 * 1.12, row, _time(each.ours.p50), va="center")
    axes.set_xscale("log")
    axes.set_xlim(10, max(each.ours.p75 for each in bars) * 3)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _time(value)))
    axes.set_xlabel("a removed link is gone for: median, lines from p25 to p75")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    return _svg(canvas)


def from_one_to_many(figures: Sequence[Figure]) -> str:
    """Four small charts over the number of links."""
    canvas = Canvas(figsize=(8, 5.2), layout="constrained")
    charts = {
        links.START: "start to READY, all missing, ms",
        links.STORM: "all removed: until all are back, ms",
        links.MEMORY: "PSS, MiB",
        links.EVENT: "processor time for an unrelated event, µs",
    }
    for axes, (series, title) in zip(canvas.subplots(2, 2).flat, charts.items(), strict=True):
        points = [each for each in figures if each.series == series and each.at is not None]
        at = [each.at or 0 for each in points]
        _line(axes, at, [each.ours.p50 for each in points], "ovl-linkd", _OURS)
        beside = [each.theirs.p50 for each in points if each.theirs]
        if beside:
            _line(axes, at, beside, "C loop", _LOOP)
            axes.legend()
        axes.set_title(title)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        if series in (links.START, links.STORM):
            axes.set_yscale("log")
            values = [each.ours.p50 for each in points] + beside
            axes.set_ylim(10 ** floor(log10(min(values))), 10 ** ceil(log10(max(values))))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_ylim(0, 1.15 * max(each.ours.p50 for each in points))
        axes.grid(alpha=0.15)
    canvas.supxlabel("links", fontsize=10)
    return _svg(canvas)


def _line(axes: Axes, at: Sequence[float], values: Sequence[float], name: str, colour: str) -> None:
    axes.plot(at, values, marker="o", markersize=4, linewidth=1.6, color=colour, label=name)


def layers(figures: Sequence[Figure]) -> str:
    """How many layers mount: a group of bars for each length of names, a bar for each way."""
    names = list(dict.fromkeys(each.what.removesuffix(f", {each.series}") for each in figures))
    series = list(dict.fromkeys(each.series for each in figures))
    canvas = Canvas(figsize=(8, 1 + 0.16 * len(names) * (len(series) + 1)), layout="constrained")
    axes = canvas.subplots()
    height = 1 / (len(series) + 1)
    for row, way in enumerate(series):
        found = [each for each in figures if each.series == way]
        at = [names.index(each.what.removesuffix(f", {way}")) + row * height for each in found]
        values = [each.ours.p50 for each in found]
        axes.barh(at, values, height=0.85 * height, color=_WAYS[row % len(_WAYS)], label=way)
        for y, value in zip(at, values, strict=True):
            axes.text(value + 4, y, number(value), va="center", fontsize=8)
    axes.set_yticks([row + (len(series) - 1) * height / 2 for row in range(len(names))], names)
    axes.set_ylim(len(names) - height, -1.5 * height)
    axes.axvline(500, color=_INK, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 540)
    axes.set_xlabel("lower layers that mount and are all there; the kernel takes 500")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    canvas.legend(loc="outside upper center", ncols=4)
    return _svg(canvas)


def mounting(figures: Sequence[Figure]) -> str:
    """The time of a mount over the number of its layers, a line for each way."""
    canvas = Canvas(figsize=(8, 3.6), layout="constrained")
    axes = canvas.subplots()
    points = [each for each in figures if each.series and each.at is not None]
    for row, way in enumerate(dict.fromkeys(each.series for each in points)):
        mine = [each for each in points if each.series == way]
        at, values = [each.at or 0 for each in mine], [each.ours.p50 for each in mine]
        _line(axes, at, values, way, _WAYS[row % len(_WAYS)])
    axes.legend()
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("lower layers")
    axes.set_ylabel("ms")
    axes.grid()
    return _svg(canvas)


def commands(figures: Sequence[Figure]) -> str:
    """From exec to exit, beside a Python that does nothing."""
    bars = sorted((each for each in figures if each.theirs), key=lambda each: -each.ours.p50)
    bare = bars[0].theirs
    assert bare
    canvas = Canvas(figsize=(8, 0.42 * len(bars) + 0.9), layout="constrained")
    axes = canvas.subplots()
    names = [each.what for each in bars]
    axes.barh(names, [each.ours.p50 for each in bars], color=_OURS, height=0.62)
    for row, each in enumerate(bars):
        axes.text(each.ours.p50 * 1.01, row, f" {number(each.ours.p50)} ms", va="center")
    axes.axvline(bare.p50, color=_LOOP, linewidth=1.6)
    axes.text(bare.p50, len(bars) - 0.45, " python -I -c pass", color=_LOOP)
    axes.set_xlim(0, max(each.ours.p50 for each in bars) * 1.15)
    axes.set_xlabel("from exec to exit, ms: median")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    return _svg(canvas)


def _time(microseconds: float) -> str:
    if microseconds < 1_000:
        return f"{microseconds:.0f} µs"
    if microseconds < 1e6:
        return f"{microseconds / 1e3:.3g} ms"
    return f"{microseconds / 1e6:.3g} s"


PICTURES: dict[str, Callable[[Sequence[Figure]], str]] = {
    "peers": peers,
    "links": from_one_to_many,
    "layers": layers,
    "mounting": mounting,
    "starting": commands,
}
