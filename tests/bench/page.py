"""Makes docs/benchmarks.md and its pictures of the figures that `make bench` keeps.

python -m tests.bench.page [--results FILE] [--to DIRECTORY]. Exit code 1 where a theme has not been
measured yet: half a page would pass for a whole one.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure, budget, from_json, number, quantity, verdict
from tests.bench.themes import THEMES, Theme

TOP = Path(__file__).parents[2]
# Around what README shows of the page.
BEGIN = "<!-- made by make bench -->\n"
END = "<!-- until here -->\n"

_HEAD = """\
# Benchmarks

*Made by `make bench`, which measures all of it side by side in one run; what is written here by
hand is lost.* Medians, the middle half of the values (from p25 to p75) and p99. Times depend on the
machine and on what else it does: the ratios to what ran beside, in turn and in the same minute, say
more. A budget is what was promised before it was measured: the most that the ratio may be or, where
nothing ran beside, the figure itself.
"""


def main() -> int:
    """Write the page and its pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.page", description=__doc__)
    parser.add_argument("--results", type=Path, default=TOP / "build/bench.json", metavar="FILE")
    parser.add_argument("--to", type=Path, default=TOP / "docs", metavar="DIRECTORY")
    options = parser.parse_args()
    results = json.loads(options.results.read_text())
    if missing := [name for name in THEMES if name not in results["themes"]]:
        print(f"bench: no page before these are measured, too: {', '.join(missing)}")
        return 1
    folder = options.to / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in _pictures(results["themes"]).items():
        (folder / f"{name}.svg").write_text(picture)
    (options.to / "benchmarks.md").write_text("\n".join(_page(results)))
    _put_into(options.to.parent / "README.md", "\n".join(_budgets(results["themes"])))
    print(f"bench: wrote {options.to}/benchmarks.md and the pictures in {folder}")
    return 0


def _put_into(readme: Path, text: str) -> None:
    """Replace what stands between the two marks of README, if there is one, by TEXT."""
    if readme.exists():
        before, begin, rest = readme.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        readme.write_text(f"{before}{begin}{text}{end}{after}")


def _figures(theme: dict[str, Any]) -> list[Figure]:
    return [from_json(each) for each in theme["figures"]]


def _pictures(themes: dict[str, Any]) -> dict[str, str]:
    """The pictures by name, of those themes that have one and anything to draw."""
    with tempfile.TemporaryDirectory(prefix="ovl-linkd-bench-") as directory:
        os.environ["MPLCONFIGDIR"] = directory  # its cache would stay in somebody's home
        from tests.bench.pictures import PICTURES

        drawn = {name: draw for name, draw in PICTURES.items() if themes[name]["figures"]}
        return {name: draw(_figures(themes[name])) for name, draw in drawn.items()}


def _page(results: dict[str, Any]) -> Iterator[str]:
    themes = results["themes"]
    yield _HEAD
    yield "| | |\n|---|---|"
    days = sorted({each["taken"] for each in themes.values()})
    load = max(each["load"] for each in themes.values())
    facts = {**results["machine"], "Measured": f"{' to '.join(days)}, load before up to {load:g}"}
    for name, value in facts.items():
        yield f"| {name} | {_cell(value)} |"
    yield ""
    if any(each["quick"] for each in themes.values()):
        yield "**Not for reading: made with a handful of rounds, to see that it works.**\n"
    yield from _budgets(themes)
    for name, theme in THEMES.items():
        yield from _section(name, theme, themes[name])


def _budgets(themes: dict[str, Any]) -> Iterator[str]:
    judged = [
        (name, each)
        for theme in themes.values()
        for name, each in _by_whole_names(_figures(theme))
        if each.kept is not None
    ]
    kept = sum(bool(each.kept) for _, each in judged)
    yield f"**Budgets:** {kept} of {len(judged)} kept.\n"
    yield "| | median | beside it | ratio | budget |"
    yield "|---|--:|---|--:|---|"
    for name, each in judged:
        _, median, _, _, beside, ratio, said, _ = map(_cell, _row(each))
        yield f"| {_cell(name)} | {median} | {beside} | {ratio} | {said} |"
    yield ""


def _by_whole_names(figures: Sequence[Figure]) -> Iterator[tuple[str, Figure]]:
    """Each of FIGURES by a name that says enough alone: what is indented goes on from above."""
    above = ""
    for each in figures:
        if each.what.startswith(" "):
            yield f"{above}: {each.what.strip()}", each
        else:
            above = each.what
            yield above, each


def _section(name: str, theme: Theme, measured: dict[str, Any]) -> Iterator[str]:
    from tests.bench.pictures import PICTURES

    figures = _figures(measured)
    yield f"## {theme.title}\n\n{theme.about}\n"
    if measured["trouble"]:
        yield f"**Not all of it could be measured here:** {_cell(measured['trouble'])}\n"
    if name in PICTURES and figures:
        yield f"![{theme.title}](benchmarks/{name}.svg)\n"
    if theme.pivot:
        yield from _pivoted([each for each in figures if each.series])
        figures = [each for each in figures if not each.series]
    if figures:
        yield from _table(figures)
    yield from _commands(name, _figures(measured), measured["seconds"])


def _table(figures: Sequence[Figure]) -> Iterator[str]:
    yield "| | median | p25 to p75 | p99 | beside it | ratio | budget | |"
    yield "|---|--:|--:|--:|---|--:|---|---|"
    for each in figures:
        yield f"| {' | '.join(map(_cell, _row(each)))} |"
    yield ""


def _pivoted(figures: Sequence[Figure]) -> Iterator[str]:
    """A table with a column for each series; in its cells medians, and the middle half."""
    columns = list(dict.fromkeys(each.series for each in figures))
    rows: dict[str, dict[str, str]] = {}
    for each in figures:
        cells = rows.setdefault(each.what.removesuffix(f", {each.series}"), {})
        cells[each.series] = quantity(each.ours.p50, each.unit)
        if each.ours.rounds > 1:
            middle = f"{number(each.ours.p25)} to {number(each.ours.p75)}"
            cells[each.series] += f"<br>{middle}"
    yield f"| | {' | '.join(columns)} |"
    yield f"|---|{'--:|' * len(columns)}"
    for name, cells in rows.items():
        yield f"| {name} | {' | '.join(cells.get(column, '–') for column in columns)} |"
    yield ""


def _row(figure: Figure) -> Sequence[str]:
    mine, beside = figure.ours, ""
    if figure.theirs:
        beside = f"{figure.beside}: {quantity(figure.theirs.p50, figure.unit)}"
    return (
        figure.what,
        quantity(mine.p50, figure.unit),
        f"{number(mine.p25)} to {number(mine.p75)}" if mine.rounds > 1 else "",
        number(mine.p99) if mine.rounds >= 20 else "",
        beside,
        "" if figure.ratio is None else number(figure.ratio),
        _budget(figure),
        figure.note,
    )


def _budget(figure: Figure) -> str:
    """The budget of FIGURE and what became of it; empty where there is none."""
    said = verdict(figure)
    return said and f"{budget(figure)}: {said.lower() if figure.kept else f'**{said}**'}"


def _commands(name: str, figures: Sequence[Figure], seconds: int) -> Iterator[str]:
    """What ran, to the letter; what ran for several of the figures stands there once."""
    ran: dict[str, list[str]] = {}
    for each in figures:
        whats = ran.setdefault(each.command, [])
        if (what := each.series or each.what) not in whats:
            whats.append(what)
    yield "<details>"
    yield f"<summary>What exactly ran: <code>make bench ARGS={name}</code>, {seconds} s</summary>\n"
    for command, whats in ran.items():
        yield f"- {'; '.join(whats)}: `{command}`"
    yield "\n</details>\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
