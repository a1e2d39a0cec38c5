"""Lines of /proc/PID/mountinfo, to be expanded only: which directories an overlay is made of.

Sources: proc_pid_mountinfo(5); the kernel's ovl_show_options() in fs/overlayfs/params.c, which
shows every path as it was given, with the escapes that its option calls for; seq_show_option() in
include/linux/seq_file.h, which then escapes what would divide the options, in octal.
"""

import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ovl_linkd.formats.spelling import (
    MOST_MOUNTINFO,
    Edit,
    Spelt,
    apply,
    in_line,
    octal,
    refuse_unreadable,
    respelt,
)
from ovl_linkd.overlay.options import LIST, RAW, SPELLING, Malformed, layers_of, parse
from ovl_linkd.overlay.prefixes import Prefix, Tables, directories, expand_value

_UNSAFE = re.compile(rb"[, \t\n\\]")


class _Overlay(NamedTuple):
    """``start``: where its line begins. ``values``: of the options that are paths, by name."""

    start: int
    point: bytes
    values: tuple[tuple[bytes, Spelt], ...]


def expand(text: bytes, prefixes: Sequence[Prefix]) -> bytes:
    """Return the lines TEXT by the long names. Raises Malformed, with the line.

    A layer that was mounted as a relative path stays as it is; relative() tells of it.
    """
    names = _Names(prefixes)
    edits: list[Edit] = []
    for overlay in _overlays(text):
        for name, spelt in overlay.values:
            try:
                long = names.long(name, spelt.value)
            except Malformed as error:
                raise in_line(text, overlay.start, error) from None
            if long != spelt.value:
                edits += respelt(spelt, [(0, len(spelt.value), long)], _escaped)
    return apply(text, edits)


def relative(text: bytes) -> Iterator[str]:
    """Yield a sentence for each line of TEXT whose layers can't be known from it."""
    for overlay in _overlays(text):
        paths: list[bytes] = []
        for name, spelt in overlay.values:
            paths += layers_of(spelt.value) if SPELLING[name] == LIST else [spelt.value]
        unknown = [os.fsdecode(path) for path in paths if not path.startswith(b"/")]
        if unknown:
            line = text.count(b"\n", 0, overlay.start) + 1
            yield (
                f"line {line}: {os.fsdecode(overlay.point)}: {len(unknown):,} of {len(paths):,} "
                f"paths are relative, the first is {unknown[0]}: mountinfo doesn't hold the "
                "directory that they start from"
            )


class _Names:
    """The long names of paths by PREFIXES."""

    def __init__(self, prefixes: Sequence[Prefix]) -> None:
        self._tables = Tables(prefixes)
        self._prefixes = prefixes
        self._shorts = directories([prefix.short for prefix in prefixes])

    def long(self, name: bytes, value: bytes) -> bytes:
        """Return VALUE, of the option NAME, by the long names. Raises Malformed."""
        kind = SPELLING[name]
        if kind == LIST:
            parse(b"%b=%b" % (name, value))
        if kind != RAW:
            return expand_value(value, kind, self._tables.of(kind))
        # Not by the table: in mount(2)'s text no such value holds a comma, but here it may.
        ranks = self._shorts.above(value)
        if not ranks:
            return value
        prefix = self._prefixes[ranks[-1]]
        return prefix.target.rstrip(b"/") + value[len(prefix.short) :]


def _overlays(text: bytes) -> Iterator[_Overlay]:
    refuse_unreadable(text, "lines of mountinfo", MOST_MOUNTINFO)
    start = 0
    for line in text.split(b"\n"):
        if line:
            fields = line.split(b" ")
            try:
                kind = fields.index(b"-", 6) + 1
                fstype, options = fields[kind], fields[kind + 2]
            except (ValueError, IndexError):
                raise in_line(text, start, _no_line()) from None
            if fstype == b"overlay":
                at = start + len(b" ".join(fields[: kind + 2])) + 1
                point = octal(fields[4], 0, len(fields[4])).value
                yield _Overlay(start, point, tuple(_values(text, at, options)))
        start += len(line) + 1


def _no_line() -> Malformed:
    return Malformed("no line of mountinfo", "give lines of /proc/self/mountinfo, as they are")


def _values(text: bytes, at: int, options: bytes) -> Iterator[tuple[bytes, Spelt]]:
    """Yield those of OPTIONS, which stand at AT of TEXT, that are paths."""
    # A comma within a value is escaped.
    for part in options.split(b","):
        name, equals, _ = part.partition(b"=")
        if equals and name in SPELLING:
            yield name, octal(text, at + len(name) + 1, at + len(part))
        at += len(part) + 1


def _escaped(value: bytes) -> bytes:
    return _UNSAFE.sub(lambda match: b"\\%03o" % match.group()[0], value)
