"""One measured figure, what it is compared with, its budget; and all of them as a table or JSON."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """What was measured. ``ours``, and ``theirs`` of what ran ``beside`` it, are in ``unit``.

    ``budget`` is the most that the ratio of the two may be; without ``beside``, the most that
    ``ours`` may be. None: for information.
    """

    what: str
    ours: float
    unit: str
    beside: str = ""
    theirs: float | None = None
    budget: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times ``theirs``."""
        return self.ours / self.theirs if self.theirs else None

    @property
    def kept(self) -> bool | None:
        """Whether the budget is kept; None where there is none."""
        if self.budget is None:
            return None
        return (self.ours if self.ratio is None else self.ratio) <= self.budget

    def as_json(self) -> dict[str, Any]:
        """The fields and what follows from them."""
        return {**self._asdict(), "ratio": self.ratio, "kept": self.kept}


def median(values: Iterable[float]) -> float:
    """The 50th percentile."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that PERCENT of VALUES don't exceed."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def table(figures: Sequence[Figure]) -> str:
    """The figures for a person to read."""
    rows = [("", "measured", "beside it", "ratio", "budget", "")]
    rows += [_cells(figure) for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].ljust(widths[2])]
        cells += [row[3].rjust(widths[3]), row[4].rjust(widths[4]), row[5].ljust(widths[5])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _cells(figure: Figure) -> tuple[str, str, str, str, str, str]:
    beside = ""
    if figure.theirs is not None:
        beside = f"{figure.beside} {_number(figure.theirs)} {figure.unit}"
    ratio = "" if figure.ratio is None else f"{figure.ratio:.3g}"
    verdict = {None: "", True: "kept", False: "MISSED"}[figure.kept]
    budget = "" if figure.budget is None else f"{figure.budget:g}"
    if figure.budget is not None and figure.theirs is None:
        budget = f"{figure.budget:g} {figure.unit}"
    verdict = "  ".join(filter(None, (verdict, figure.note)))
    return figure.what, f"{_number(figure.ours)} {figure.unit}", beside, ratio, budget, verdict


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.3g}"
