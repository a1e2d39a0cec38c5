"""`make bench` works: each theme with a handful of rounds, and the page that is made of them.

Figures are for quiet machines and for people to judge; none is judged here.
"""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench.figures import Figure, from_json, number, sample, table
from tests.bench.page import BEGIN, END
from tests.bench.themes import THEMES

TOP = Path(__file__).parents[1]


def run(module: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=TOP,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.needs("root", "cc", "systemd-nspawn")
def test_every_theme_is_measured_and_the_page_is_made_of_it(tmp_path: Path) -> None:
    """A benchmark that nobody runs between two releases is broken when it is needed."""
    results = tmp_path / "bench.json"
    done = run("tests.bench", "--quick", "--results", results)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    themes = json.loads(results.read_text())["themes"]
    assert list(themes) == list(THEMES)
    for name, theme in themes.items():
        assert theme["figures"], f"{name} measured nothing"

    pages = []
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{BEGIN}old{END}below\n")
    for folder in (tmp_path / "first", tmp_path / "second"):
        done = run("tests.bench.page", "--results", results, "--to", folder)
        assert done.returncode == 0, done.stderr
        pages.append({each.name: each.read_bytes() for each in folder.rglob("*.*")})
    page = pages[0]["benchmarks.md"].decode()
    assert "Not for reading" in page
    for theme in THEMES.values():
        assert f"\n## {theme.title}\n" in page
    pictures = {name: text for name, text in pages[0].items() if name.endswith(".svg")}
    assert pictures
    for name, text in pictures.items():
        ElementTree.fromstring(text)
        assert f"(benchmarks/{name})" in page
        assert len(text) < 256 * 1024
    budgets = readme.read_text().removeprefix(f"above\n{BEGIN}").removesuffix(f"{END}below\n")
    assert budgets.count("\n| ") > len(THEMES) / 2
    assert budgets in page
    assert pages[0] == pages[1]  # or every run would change every picture in the repository


def test_the_readme_shows_the_budgets_of_the_page() -> None:
    _, _, rest = (TOP / "README.md").read_text().partition(BEGIN)
    budgets, _, _ = rest.partition(END)
    assert "**Budgets:**" in budgets
    assert budgets in (TOP / "docs/benchmarks.md").read_text()


def test_half_of_the_themes_make_no_page(tmp_path: Path) -> None:
    """A run of one theme must not replace a page that has all of them."""
    results = tmp_path / "bench.json"
    results.write_text(json.dumps({"machine": {}, "themes": {"restoring": {}}}))
    done = run("tests.bench.page", "--results", results, "--to", tmp_path / "docs")
    assert done.returncode == 1
    assert "peers" in done.stdout
    assert not (tmp_path / "docs").exists()


def test_a_budget_is_of_the_ratio_where_something_ran_beside() -> None:
    beside = Figure("a", sample([3, 1, 2]), "ms", "C", sample(1.0), budget=2.0)
    assert (beside.ratio, beside.kept) == (2.0, True)
    assert beside._replace(budget=1.9).kept is False
    alone = Figure("b", sample(27.0), "MiB", budget=26.0)
    assert (alone.ratio, alone.kept) == (None, False)
    assert Figure("c", sample(1.0), "").kept is None


def test_figures_come_back_as_they_were_written() -> None:
    figure = Figure("a", sample([1.0, 2.0]), "ms", "C", sample([0.5]), 3.0, series="s", at=10)
    assert from_json(json.loads(json.dumps(figure.as_json()))) == figure


def test_the_spread_is_that_of_the_values() -> None:
    values = sample(range(1, 101))
    assert (values.rounds, values.p25, values.p50, values.p75, values.p99) == (
        100,
        25,
        50.5,
        75,
        99,
    )
    assert values.spread == "25 to 75, p99 99"
    assert sample([7]).spread == ""


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.1234, "0.123"),
        (1.0004, "1.00"),
        (45.67, "45.7"),
        (99.97, "100"),
        (1e4, "10,000"),
    ],
)
def test_a_number_has_the_digits_that_count(value: float, said: str) -> None:
    assert number(value) == said


def test_a_missed_budget_can_be_seen() -> None:
    figure = Figure("a", sample(3.0), "ms", "C", sample(1.0), budget=2.0, note="because")
    assert table([figure]).splitlines()[1].split()[-3:] == ["2", "MISSED", "because"]
