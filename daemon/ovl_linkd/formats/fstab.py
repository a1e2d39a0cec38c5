r"""fstab: the options of its overlay lines; comments, columns and all other lines stay.

Sources: fstab(5); util-linux' libmount/src/tab_parse.c and lib/mangle.c; glibc's misc/mntent_r.c,
whose reader systemd's generator uses at boot: its buffer holds 4,096 bytes, and the rest of a line
is dropped without an error. What is written is escaped as both readers undo it: ``\040``,
``\011``, ``\012``, ``\134``.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ovl_linkd.formats.judging import Means, judge, without_force
from ovl_linkd.formats.spelling import (
    Edit,
    Rewritten,
    Spelt,
    apply,
    changes,
    in_line,
    octal,
    outcome,
    refuse_unreadable,
    respelt,
)
from ovl_linkd.overlay import shorten
from ovl_linkd.overlay.options import Malformed
from ovl_linkd.overlay.shorten import Plan, Prefix, Tables

#: bytes of a line that systemd-fstab-generator reads
MOST_IN_LINE = 4095

_FIELD = re.compile(rb"[^ \t\n]+")
_NUMBER = re.compile(rb"[+-]?[0-9]+")
_UNSAFE = re.compile(rb"[ \t\n\\]")
_TYPE, _OPTIONS = 2, 3


class _Line(NamedTuple):
    """An overlay line: where it starts and ends in the text, and its options."""

    start: int
    end: int
    options: Spelt


def rewrite(text: bytes, means: Means) -> Rewritten:
    """Shorten the overlay lines of the fstab TEXT.

    Nothing in fstab could force mount(8) to another way than its own. A line that stays longer than
    MOST_IN_LINE doesn't fit. Raises Malformed, with the line.
    """
    plans = []
    edits: list[Edit] = []
    for line in _overlays(text):
        try:
            plan = without_force(judge(line.options.value, means), means.limits)
            mine = _edits(line, plan.options) if plan.fits else []
        except Malformed as error:
            raise in_line(text, line.start, error) from None
        plans.append(_within_line(text, line, mine, plan))
        edits += mine
    return outcome(text, edits, plans)


def expand(text: bytes, prefixes: Sequence[Prefix]) -> bytes:
    """Return the fstab TEXT by the long names. Raises Malformed as rewrite()."""
    edits: list[Edit] = []
    tables = Tables(prefixes)
    for line in _overlays(text):
        try:
            edits += _edits(line, shorten.expand(line.options.value, tables))
        except Malformed as error:
            raise in_line(text, line.start, error) from None
    return apply(text, edits)


def _overlays(text: bytes) -> Iterator[_Line]:
    """Yield the overlay lines of TEXT. Raises Malformed for one that mount(8) would leave out."""
    refuse_unreadable(text, "lines of fstab")
    start = 0
    for line in text.split(b"\n"):
        end = start + len(line)
        fields = list(_FIELD.finditer(line))
        if len(fields) > _TYPE and not fields[0].group().startswith(b"#"):
            places = [(start + at, start + last) for at, last in (x.span() for x in fields)]
            if octal(text, *places[_TYPE]).value == b"overlay":
                if reason := _problem([field.group() for field in fields]):
                    raise in_line(text, start, reason)
                yield _Line(start, end, octal(text, *places[_OPTIONS]))
        start = end + 1


def _problem(fields: list[bytes]) -> Malformed | None:
    if len(fields) <= _OPTIONS:
        return Malformed(
            "an overlay without options", "the fourth field holds lowerdir= and the others"
        )
    for field in fields[_OPTIONS + 1 : _OPTIONS + 3]:
        if not _NUMBER.fullmatch(field):
            shown = field[:40].decode("utf-8", "backslashreplace")
            return Malformed(
                f"{shown} stands where a number belongs, and mount(8) leaves such a line out",
                r"a space within the options is spelt \040",
            )
    return None


def _edits(line: _Line, options: bytes) -> list[Edit]:
    return respelt(line.options, changes(line.options.value, options), _escaped)


def _escaped(value: bytes) -> bytes:
    return _UNSAFE.sub(lambda match: b"\\%03o" % match.group()[0], value)


def _within_line(text: bytes, line: _Line, edits: list[Edit], plan: Plan) -> Plan:
    """Return PLAN, refused where systemd's generator would cut the line that it makes."""
    size = line.end - line.start + sum(len(new) - (last - first) for first, last, new in edits)
    if not plan.fits or size <= MOST_IN_LINE:
        return plan
    number = text.count(b"\n", 0, line.start) + 1
    return plan._replace(
        options=b"",
        fits=False,
        after=size,
        limit=MOST_IN_LINE,
        limit_of="a line of fstab",
        reason=f"line {number}: it would have {size:,} bytes, of which systemd's generator reads "
        f"{MOST_IN_LINE:,} at boot and drops the rest without an error",
        remedy="write it as a .mount unit, which takes longer lines; rewrite --as unit shortens it",
    )
