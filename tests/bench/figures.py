"""One measured figure, what it is compared with, its budget; and all of them as a table or JSON."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Sample(NamedTuple):
    """What was measured in so many ROUNDS: the median and how far the values lie around it."""

    rounds: int
    p25: float
    p50: float
    p75: float
    p99: float

    @property
    def spread(self) -> str:
        """The middle half and the 99th percentile, for a person; empty for a single value."""
        if self.rounds < 2:
            return ""
        quarter = f"{number(self.p25)} to {number(self.p75)}"
        return f"{quarter}, p99 {number(self.p99)}" if self.rounds >= 20 else quarter


class Figure(NamedTuple):
    """What was measured. ``ours``, and ``theirs`` of what ran ``beside`` it, are in ``unit``.

    ``budget`` is the most that the ratio of the two medians may be; without ``beside``, the most
    that ``ours`` may be. None: for information. ``command`` is what ran, to the letter. A figure
    that is one point of a line in a picture says which one in ``series``, and where in ``at``.
    """

    what: str
    ours: Sample
    unit: str
    beside: str = ""
    theirs: Sample | None = None
    budget: float | None = None
    note: str = ""
    command: str = ""
    series: str = ""
    at: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times ``theirs``."""
        return self.ours.p50 / self.theirs.p50 if self.theirs and self.theirs.p50 else None

    @property
    def kept(self) -> bool | None:
        """Whether the budget is kept; None where there is none."""
        if self.budget is None:
            return None
        return (self.ours.p50 if self.ratio is None else self.ratio) <= self.budget

    def as_json(self) -> dict[str, Any]:
        """The fields and what follows from them."""
        theirs = self.theirs and self.theirs._asdict()
        fields = {**self._asdict(), "ours": self.ours._asdict(), "theirs": theirs}
        return {**fields, "ratio": self.ratio, "kept": self.kept}


def from_json(said: dict[str, Any]) -> Figure:
    """The inverse of Figure.as_json()."""
    fields = {name: said[name] for name in Figure._fields}
    theirs = said["theirs"] and Sample(**said["theirs"])
    return Figure(**{**fields, "ours": Sample(**said["ours"]), "theirs": theirs})


def sample(values: float | Iterable[float]) -> Sample:
    """What VALUES, at least one, amount to."""
    ordered = [values] if isinstance(values, (int, float)) else sorted(values)
    return Sample(
        len(ordered),
        percentile(ordered, 25),
        statistics.median(ordered),
        percentile(ordered, 75),
        percentile(ordered, 99),
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The value that PERCENT of the ORDERED ones don't exceed."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def rounds(most: int, effort: float) -> int:
    """How often to measure: MOST times for an effort of 1, at least twice."""
    return max(2, round(most * effort))


def table(figures: Sequence[Figure]) -> str:
    """The figures for a person to read in a terminal."""
    lines: list[tuple[str, ...]] = [("", "median", "spread", "beside it", "ratio", "budget", "")]
    lines += [_cells(figure) for figure in figures]
    widths = [max(len(line[column]) for line in lines) for column in range(7)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in (1, 4, 5) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(figure: Figure) -> tuple[str, ...]:
    beside = ""
    if figure.theirs is not None:
        beside = f"{figure.beside} {quantity(figure.theirs.p50, figure.unit)}"
    return (
        figure.what,
        quantity(figure.ours.p50, figure.unit),
        figure.ours.spread,
        beside,
        "" if figure.ratio is None else f"{figure.ratio:.3g}",
        budget(figure),
        "  ".join(filter(None, (verdict(figure), figure.note))),
    )


def budget(figure: Figure) -> str:
    """The budget of FIGURE with its unit, if it isn't a ratio."""
    if figure.budget is None:
        return ""
    return f"{figure.budget:g}" if figure.theirs else quantity(figure.budget, figure.unit)


def verdict(figure: Figure) -> str:
    """What became of the budget of FIGURE."""
    return {None: "", True: "kept", False: "MISSED"}[figure.kept]


def quantity(value: float, unit: str) -> str:
    """VALUE with its UNIT, which may be none."""
    return f"{number(value)} {unit}".rstrip()


def number(value: float) -> str:
    """VALUE with some three digits that count."""
    if abs(value) >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")
