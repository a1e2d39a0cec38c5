"""systemd's .mount units: the ``Options=`` that counts, where ``Type=overlay``; all else stays.

Sources, of systemd 252 and 257: config_parse() and parse_line() in src/shared/conf-parser.c for
lines; Mount.Options and Mount.Type in src/core/load-fragment-gperf.gperf.in, strings in which
specifiers are expanded; fstab_filter_options() in src/shared/fstab-util.c, through which options
go on their way to mount(8).
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ovl_linkd.formats.judging import FORCE, MOUNT2, Means, judge
from ovl_linkd.formats.spelling import (
    Edit,
    Rewritten,
    Spelt,
    apply,
    changes,
    in_line,
    outcome,
    refuse_unreadable,
    respelt,
)
from ovl_linkd.overlay import shorten
from ovl_linkd.overlay.options import SPELLING, Malformed, parse
from ovl_linkd.overlay.shorten import Prefix

_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\n\r"
_SECTION = re.compile(rb"\[(.*)\]\s*")
_SPECIFIER = re.compile(rb"%.?", re.DOTALL)
_ESCAPE = re.compile(rb"\\.", re.DOTALL)


class _Assignment(NamedTuple):
    """``name``: of the key. ``value``: as it stands, continued lines joined. ``start``: where the
    line begins."""

    name: bytes
    value: Spelt
    start: int


def rewrite(text: bytes, means: Means) -> Rewritten:
    """Shorten the options of the .mount unit TEXT; there is one plan, or none.

    What is too long by value but fits mount(2) gets an Environment= that has mount(8) use that.
    Raises Malformed, with the line.
    """
    found = _options(text)
    if found is None:
        return Rewritten(text, ())
    try:
        options = _as_mounted(found.value)
        way = MOUNT2 if _forced(text) else means.way
        plan, force = judge(options.value, means._replace(way=way))
        edits = _edits(options, plan.options) if plan.fits else []
        if force:
            edits.append((found.start, found.start, b"Environment=" + FORCE + b"\n"))
        made = outcome(text, edits, [plan])
        if plan.fits:
            _check(made.text, plan.options)
        if force and not _forced(made.text):
            raise Malformed(
                f"an Environment= after the options undoes {FORCE.decode()}, which they need",
                "put it before Options=",
            )
    except Malformed as error:
        raise in_line(text, found.start, error) from None
    return made


def expand(text: bytes, prefixes: Sequence[Prefix]) -> bytes:
    """Return the .mount unit TEXT by the long names. Raises Malformed as rewrite()."""
    found = _options(text)
    if found is None:
        return text
    try:
        options = _as_mounted(found.value)
        long = shorten.expand(options.value, prefixes)
        expanded = apply(text, _edits(options, long))
        _check(expanded, long)
    except Malformed as error:
        raise in_line(text, found.start, error) from None
    return expanded


def _check(text: bytes, options: bytes) -> None:
    """Raise Malformed where the unit TEXT does not have mount(8) be given OPTIONS.

    No escape makes a value hold a newline, blanks at its ends, or bytes that are not UTF-8.
    """
    found = _options(text)
    if found is None or _as_mounted(found.value).value != options:
        raise Malformed(
            "a unit can't hold these paths: a newline, blanks at the end, or bytes that are no "
            "UTF-8",
            "mount them from a script: rewrite --as mount",
        )


def _options(text: bytes) -> _Assignment | None:
    """Return the last ``Options=`` of the unit TEXT, if it is one of an overlay."""
    last: dict[bytes, _Assignment] = {}
    for assignment in _mount_section(text):
        if assignment.name in (b"Options", b"Type"):
            last[assignment.name] = assignment
    fstype, options = last.get(b"Type"), last.get(b"Options")
    if fstype is None or options is None or fstype.value.value != b"overlay":
        return None
    return options


def _forced(text: bytes) -> bool:
    """Whether the unit TEXT has mount(8) call mount(2): of several values the last one counts."""
    name, _, wanted = FORCE.partition(b"=")
    found = b""
    for assignment in _mount_section(text):
        if assignment.name == b"Environment":
            # An empty one forgets the others.
            words = assignment.value.value.split() or [name]
            for word in words:
                variable, _, value = word.strip(b"\"'").partition(b"=")
                found = value if variable == name else found
    return found == wanted


def _mount_section(text: bytes) -> Iterator[_Assignment]:
    """Yield what is assigned in the [Mount] section, which may be there more than once."""
    refuse_unreadable(text, "a unit")
    section = b""
    for line, start in _logical_lines(text):
        # A line that is not UTF-8 is left out, with a warning.
        try:
            line.value.decode()
        except UnicodeDecodeError:
            continue
        stripped = line.value.strip(_BLANKS)
        if match := _SECTION.fullmatch(stripped):
            section = match[1]
        elif stripped.startswith(b"["):
            shown = stripped[:40].decode("utf-8", "backslashreplace")
            raise in_line(text, start, Malformed(f"{shown} is no section", "a ] closes it"))
        elif section == b"Mount" and b"=" in line.value:
            name, _, value = line.value.partition(b"=")
            yield _Assignment(name.strip(_BLANKS), _stripped(line, len(name) + 1, value), start)


def _logical_lines(text: bytes) -> Iterator[tuple[Spelt, int]]:
    """Yield each line with those that continue it, and where it begins.

    A backslash at the end continues a line and becomes a space; comments in between are left out.
    """
    at = len(_BOM) if text.startswith(_BOM) else 0
    value, starts, begun = b"", list[int](), at
    while at < len(text):
        end = text.find(b"\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end].removesuffix(b"\r")
        if line.lstrip(_BLANKS)[:1] not in (b"#", b";"):
            if not starts:
                begun = at
            value += line
            starts += range(at, at + len(line))
            if _continues(value):
                value = value[:-1] + b" "
            else:
                if value:
                    yield Spelt(value, [*starts, at + len(line)]), begun
                value, starts = b"", []
        at = end + 1
    if starts:
        yield Spelt(value, [*starts, len(text)]), begun


def _continues(value: bytes) -> bool:
    return (len(value) - len(value.rstrip(b"\\"))) % 2 == 1


def _stripped(line: Spelt, first: int, value: bytes) -> Spelt:
    """Return VALUE, which begins at FIRST of LINE, without the blanks around it."""
    first += len(value) - len(value.lstrip(_BLANKS))
    value = value.strip(_BLANKS)
    return Spelt(value, line.starts[first : first + len(value) + 1])


def _as_mounted(spelt: Spelt) -> Spelt:
    """Return the options that mount(8) is given for those that SPELT says."""
    mounted = _without_escapes(_without_specifiers(spelt))
    for part in parse(mounted.value).parts:
        name = part.partition(b"=")[0]
        if name.strip(_BLANKS) in SPELLING and name not in SPELLING:
            raise Malformed(
                f"a blank stands before {name.strip(_BLANKS).decode()}=, and mount(8) refuses it",
                "write the options without blanks; where a backslash continues the line, systemd "
                "makes a blank of it",
            )
    return mounted


def _without_specifiers(spelt: Spelt) -> Spelt:
    found = [(match.start(), match.group()) for match in _SPECIFIER.finditer(spelt.value)]
    for _, specifier in found:
        if specifier != b"%%":
            raise _unknown_specifier(specifier)
    return _without(spelt, [at + 1 for at, _ in found])


def _without_escapes(spelt: Spelt) -> Spelt:
    """Undo what fstab_filter_options() does: of all escapes only that of a backslash."""
    found = [match.start() for match in _ESCAPE.finditer(spelt.value) if match.group() == b"\\\\"]
    return _without(spelt, [at + 1 for at in found])


def _without(spelt: Spelt, places: list[int]) -> Spelt:
    """Return SPELT without the bytes at PLACES, which belong to the spelling of those before."""
    if not places:
        return spelt
    left = sorted(set(range(len(spelt.value))) - set(places))
    value = bytes([spelt.value[at] for at in left])
    return Spelt(value, [*(spelt.starts[at] for at in left), spelt.starts[-1]])


def _unknown_specifier(specifier: bytes) -> Malformed:
    shown = specifier.decode("utf-8", "backslashreplace")
    return Malformed(
        f"only systemd knows what {shown} stands for",
        "give the options as they will be; a percent sign is spelt %%",
    )


def _edits(options: Spelt, wanted: bytes) -> list[Edit]:
    return respelt(options, changes(options.value, wanted), _escaped)


def _escaped(value: bytes) -> bytes:
    """Return VALUE so that _as_mounted() undoes it."""
    return value.replace(b"\\\\", b"\\\\\\\\").replace(b"%", b"%%")
