"""`ovl-linkd status` for people."""

import os
import sys
from typing import Any

from ovl_linkd.text import middle, printable

Json = dict[str, Any]

#: state -> mark, and the SGR colour of both (ECMA-48)
_MARKS = {"ok": ("✔", "32"), "dangling": ("○", "33"), "waiting": ("○", "33")}
_BAD = ("✘", "31")
_HEAD = ("NAME", "STATE", "PATH", "TARGET", "REPAIRS", "LAST REPAIR", "LAYERS")
_LEAST_PATH = 16  # columns that a shortened path keeps


def fancy() -> bool:
    """Whether standard output is a terminal that wants colour (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def table(state: Json) -> str:
    """The links of STATE a line each, what is wrong with one below it, farm and daemon last."""
    rows = [_cells(row) for row in state["links"]]
    # A terminal that nobody has given a size says 0.
    if sys.stdout.isatty() and (columns := os.get_terminal_size().columns):
        _squeeze(rows, columns)
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    lines = [_join(_HEAD, widths, "  ")]
    for link, cells in zip(state["links"], rows, strict=True):
        lines.append(_paint(_join(cells, widths, _mark(link["state"]) + " "), link["state"]))
        lines += [printable(f"    {text}") for text in _why(link)]
    if farm := state["farm"]:
        from ovl_linkd.commands.status_farm import line

        lines += ["", _paint(f"{_mark(farm['state'])} {line(farm)}", farm["state"])]
        lines += [printable(f"    {text}") for text in _why(farm)]
    return "\n".join([*lines, "", *_daemon(state["daemon"]), *map(_exec, state["exec"])])


def change(row: Json) -> str:
    """One line about a link that changed, or was put right."""
    last = row["last_repair"]
    when = last["at"][11:19] if last else (row["since"] or "")[11:19]
    text = f"{when} {row['name']} {row['state']}"
    if last:
        text += f": {_repair(last)}, repair {row['repairs']}"
    if row["reason"]:
        text += f": {row['reason']}"
    return _paint(printable(text), row["state"])


def _cells(row: Json) -> list[str]:
    last, layers = row["last_repair"], row["layers"]
    cells = [
        row["name"],
        row["state"],
        row["path"],
        row["target"],
        "-" if row["repairs"] is None else str(row["repairs"]),
        f"{last['at'][:10]} {last['at'][11:19]} {_repair(last)}" if last else "-",
        f"{layers['plain']} -> {layers['short']}",
    ]
    return [printable(cell) for cell in cells]


def _repair(last: Json) -> str:
    return f"{last['found']} {last['took_us']} µs"


def _squeeze(rows: list[list[str]], columns: int) -> None:
    """Shorten paths and targets in the middle until each row fits into COLUMNS."""
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    over = 2 + sum(widths) + 2 * len(widths) - columns
    for column in (3, 2):
        width = max(_LEAST_PATH, widths[column] - max(0, over))
        over -= widths[column] - width
        for row in rows:
            row[column] = middle(row[column], width)


def _join(cells: "tuple[str, ...] | list[str]", widths: list[int], mark: str) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return (mark + "  ".join(padded)).rstrip()


def _mark(state: str) -> str:
    return _MARKS.get(state, _BAD)[0] if fancy() else " "


def _paint(text: str, state: str) -> str:
    return f"\x1b[{_MARKS.get(state, _BAD)[1]}m{text}\x1b[0m" if fancy() else text


def _why(row: Json) -> list[str]:
    lines = [f"{row['state']}: {row['reason']}"] if row["reason"] else []
    if row["remedy"]:
        lines.append(f"to do: {row['remedy']}")
    if row.get("next_try"):
        lines.append(f"tried again at {row['next_try']}")
    return lines


def _exec(supervisor: Json) -> str:
    counts = ", ".join(f"{supervisor[name]:,} {name}" for name in ("seen", "rewritten", "refused"))
    command = " ".join(supervisor["command"])
    text = f"exec {middle(command, 40)}, pid {supervisor['pid']}, since {supervisor['since']}"
    return printable(f"{text}: {counts}")


def _daemon(daemon: Json) -> list[str]:
    if not daemon["running"]:
        return [f"the daemon is not running: {daemon['trouble']}"]
    if "pid" not in daemon:
        return [f"the daemon can't be asked: {daemon['trouble']}"]
    lines = [f"daemon {daemon['version']}, pid {daemon['pid']}, since {daemon['since']}"]
    if daemon["config_changed_on_disk"]:
        lines.append("the configuration has changed on disk: ovl-linkd reload")
    return lines
