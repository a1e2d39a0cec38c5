"""`ovl-linkd doctor` for people: grouped, what is wrong marked, a last line that sums it up."""

from typing import TYPE_CHECKING

from ovl_linkd.commands.status_text import fancy
from ovl_linkd.text import printable

if TYPE_CHECKING:
    from ovl_linkd.doctor.finding import Finding

#: level -> mark, and the SGR colour of the line (ECMA-48)
_MARKS = {
    "ok": ("✔", "32"),
    "note": ("·", "0"),
    "maybe": ("?", "33"),
    "wrong": ("✘", "31"),
    "unknown": ("○", "33"),
}
_LEVEL = 9  # columns


def report(groups: "list[tuple[str, list[Finding]]]") -> str:
    """All that was found, by concern, and a line that counts it."""
    lines: list[str] = []
    for name, found in groups:
        lines.append(_paint(name, "1"))
        for one in found:
            lines += _of(one)
    return "\n".join([*lines, "", _sum([one for _, found in groups for one in found])])


def _of(finding: "Finding") -> list[str]:
    mark, colour = _MARKS[finding.level]
    head = f"{mark} {finding.level}" if fancy() else finding.level
    lines = [_paint(f"  {head:<{_LEVEL}} {printable(finding.what)}", colour)]
    indent = " " * (_LEVEL + 3)
    if finding.why:
        lines.append(f"{indent}{printable(finding.why)}")
    if finding.mend:
        lines.append(f"{indent}to do: {printable(finding.mend)}")
    return lines


def _sum(found: "list[Finding]") -> str:
    count = {level: sum(one.level == level for one in found) for level in _MARKS}
    parts = [f"{count['wrong']} to mend" if count["wrong"] else "nothing to mend"]
    if count["maybe"]:
        parts.append(f"{count['maybe']} to look at")
    if count["unknown"]:
        parts.append(f"{count['unknown']} could not be looked into")
    return _paint(", ".join(parts), "31" if count["wrong"] else "32")


def _paint(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if fancy() else text
