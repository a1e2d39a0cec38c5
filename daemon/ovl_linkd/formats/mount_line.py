"""mount(8) command lines, as people keep them and as ``ctr snapshots mounts`` prints them.

Only paths in the options change; all else, comments, quotes and other commands included, stays
byte for byte. A line is judged by the mount(8) that will read it: from util-linux 2.39 on that
hands each value to fsconfig(2), which takes 255 bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ovl_linkd.formats import mount_arguments, shell
from ovl_linkd.formats.mount_arguments import Call
from ovl_linkd.formats.shell import Word
from ovl_linkd.overlay import shorten
from ovl_linkd.overlay.limits import Limits
from ovl_linkd.overlay.options import (
    LIST,
    MAX_TEXT,
    SPELLING,
    Malformed,
    layers_and_colons,
    parse,
)
from ovl_linkd.overlay.shorten import Plan, Prefix, Tables

_FORCE = b"LIBMOUNT_FORCE_MOUNT2=always"
_FORCE_NAME = b"LIBMOUNT_FORCE_MOUNT2="
# These take NAME=VALUE words themselves; the shell does where no other program comes first.
_TAKE_ASSIGNMENTS = (b"sudo", b"env")
# Options that name layers, wherever they stand.
_LAYERS = (b"lowerdir=", b"lowerdir+=", b"datadir+=")
_PROGRAMS = (b"sudo", b"doas", b"env", b"exec", b"command", b"nice", b"ionice")

Edit = tuple[int, int, bytes]


class Rewritten(NamedTuple):
    """``text``: the lines to use, empty unless every plan fits. One plan an overlay mount."""

    text: bytes
    plans: tuple[Plan, ...]


def rewrite(
    text: bytes,
    prefixes: Sequence[Prefix],
    limits: Limits,
    when: str = shorten.ALWAYS,
    *,
    by_value: bool = False,
) -> Rewritten:
    """Shorten the overlay mounts in TEXT.

    ``by_value``: mount(8) hands over one value at a time, so that ``limits.fsconfig`` counts;
    what is too long for that but fits mount(2) gets LIBMOUNT_FORCE_MOUNT2=always in front. Raises
    Malformed, with the line, for options that are malformed or that only a shell could know, and
    for what looks like options over ``limits.mount`` but stands in no mount that could be judged.
    """
    plans = []
    edits: list[Edit] = []
    tables = Tables(prefixes)
    for call in _overlay_mounts(text, limits.mount):
        options = b",".join(value.text for value in call.options)
        try:
            plan, force = _judge(options, tables, limits, when, by_value and not _forced(call))
            if plan.strategy == "link":
                edits += _edits(text, call, lambda given: _shortened(given, tables))
        except Malformed as error:
            raise _in_line(text, call.words[call.mount], error) from None
        plans.append(plan)
        if force:
            edits.append(_force(call))
    if not all(plan.fits for plan in plans):
        return Rewritten(b"", tuple(plans))
    return Rewritten(_apply(text, edits), tuple(plans))


def expand(text: bytes, prefixes: Sequence[Prefix]) -> bytes:
    """Return TEXT with the long names in its overlay mounts. Raises Malformed as rewrite()."""
    edits: list[Edit] = []
    tables = Tables(prefixes)
    for call in _overlay_mounts(text):
        try:
            edits += _edits(text, call, lambda given: shorten.expand(given, tables))
        except Malformed as error:
            raise _in_line(text, call.words[call.mount], error) from None
    return _apply(text, edits)


def _shortened(options: bytes, tables: Tables) -> bytes:
    return shorten.shortened(parse(options), tables).format()


def _overlay_mounts(text: bytes, most: int | None = None) -> Iterator[Call]:
    """Yield the overlay mounts in TEXT. Raises Malformed for one that can't be known.

    And for more than MOST bytes of what looks like options but stands in none of them.
    """
    if len(text) > MAX_TEXT:
        raise Malformed(
            f"{len(text):,} bytes of command lines", f"at most {MAX_TEXT:,} bytes are looked at"
        )
    if b"\0" in text:
        raise Malformed(f"a NUL byte at offset {text.index(0):,}", "command lines are text")
    try:
        commands = shell.commands(text)
    except shell.Unclosed as error:
        line = text.count(b"\n", 0, error.offset) + 1
        raise Malformed(f"line {line}: a quote is never closed", "close it") from None
    for words in commands:
        call = mount_arguments.read(words)
        if call and not _is_overlay(call):
            call = None
        if call:
            _check(text, call)
        if most is not None:
            _refuse_unjudged(text, words, call, most)
        if call:
            yield call


def _refuse_unjudged(text: bytes, words: list[Word], call: Call | None, most: int) -> None:
    """Raise Malformed where nobody judged more than MOST bytes of what looks like options."""
    judged = {value.word.start for value in call.options} if call else set()
    suspects = [w for w in words if w.start not in judged and any(n in w.value for n in _LAYERS)]
    # Several may end up in one mount, which joins them with commas.
    if sum(len(word.value) + 1 for word in suspects) > most + 1:
        raise _in_line(
            text,
            suspects[0],
            Malformed(
                "these look like overlay options, but they stand in no `mount -t overlay` that "
                "can be known",
                "give options alone without --as mount, or the mount command as it will be run",
            ),
        )


def _is_overlay(call: Call) -> bool:
    if any(value.text == b"overlay" for value in call.types[-1:]):
        return True
    of_unknown_type = any(value.word.unknown for value in call.types)
    return of_unknown_type and any(b"lowerdir" in value.text for value in call.options)


def _check(text: bytes, call: Call) -> None:
    """Raise Malformed where only a shell, or another program, knows what CALL mounts."""
    problem = _unknowable(call)
    if problem:
        raise _in_line(text, call.words[call.mount], Malformed(*problem))


def _unknowable(call: Call) -> tuple[str, str] | None:
    if not call.understood:
        before = call.before[0].value.decode("utf-8", "backslashreplace")
        return (
            f"can't tell what {before} makes of the mount after it",
            "give the mount command alone, as the machine that mounts will run it",
        )
    for value in (*call.types, *call.options):
        if value.word.unknown:
            return (
                f"only the shell knows what {value.word.unknown} stands for",
                "give the options as they will be, or rewrite what goes into the variable",
            )
    for word in () if call.options else call.words[call.mount + 1 :]:
        if word.unknown:
            return (
                f"only the shell knows what {word.unknown} stands for, and no -o is given",
                "give the options as they will be",
            )
    return None


def _in_line(text: bytes, word: Word, error: Malformed) -> Malformed:
    line = text.count(b"\n", 0, word.start) + 1
    return Malformed(f"line {line}: {error.what}", error.hint)


def _judge(
    options: bytes, tables: Tables, limits: Limits, when: str, by_value: bool
) -> tuple[Plan, bool]:
    """Return the plan for OPTIONS, and whether mount(8) must be forced to mount(2) for it."""
    if not by_value:
        return shorten.plan(options, tables, limits, when), False
    widest = _widest(options)
    needed = when == shorten.ALWAYS or widest > limits.fsconfig
    # mountinfo still ends what any number of short values may add up to.
    whole = shorten.plan(
        options, tables if needed else (), limits, limit=MAX_TEXT, limit_of="fsconfig(2)"
    )
    if not whole.fits:
        return whole, False
    after = _widest(whole.options)
    if after <= limits.fsconfig:
        return whole._replace(before=widest, after=after, limit=limits.fsconfig), False
    by_mount2 = shorten.plan(options, tables, limits)
    return by_mount2, by_mount2.fits


def _widest(options: bytes) -> int:
    """Return the size of the longest value; mount(8) hands each over without its name."""
    return max((len(value) for _, value in parse(options).items() if value), default=0)


def _forced(call: Call) -> bool:
    """Whether the line itself has mount(8) call mount(2)."""
    given = [word.value for word in call.before if word.value.startswith(_FORCE_NAME)]
    return bool(given) and given[-1] == _FORCE


def _force(call: Call) -> Edit:
    """Put the assignment before ``mount``, where the last program before it will take it."""
    at = call.words[call.mount].start
    programs = [word.value.rpartition(b"/")[2] for word in call.before]
    programs = [name for name in programs if name in _PROGRAMS]
    if programs and programs[-1] not in _TAKE_ASSIGNMENTS:
        return at, at, b"env " + _FORCE + b" "
    return at, at, _FORCE + b" "


def _edits(text: bytes, call: Call, rename: Callable[[bytes], bytes]) -> list[Edit]:
    """Return what changes in TEXT when RENAME is done to each value of ``-o``."""
    found = []
    for value in call.options:
        changes = _changes(value.text, rename(value.text))
        if changes:
            moved = [
                (first + value.offset, last + value.offset, new) for first, last, new in changes
            ]
            found.append((value.word.start, value.word.end, shell.replace(text, value.word, moved)))
    return found


def _changes(old: bytes, new: bytes) -> list[Edit]:
    """Return where in OLD paths change so that it becomes NEW."""
    changes: list[Edit] = []
    at = 0
    for was, becomes in zip(parse(old).parts, parse(new).parts, strict=True):
        for left, right in zip(_tokens(was), _tokens(becomes), strict=True):
            if left != right:
                same = _same_end(left, right)
                changes.append((at, at + len(left) - same, right[: len(right) - same]))
            at += len(left)
        at += 1
    return changes


def _tokens(part: bytes) -> list[bytes]:
    name, equals, value = part.partition(b"=")
    kind = SPELLING.get(name)
    if kind is None or not equals:
        return [part]
    return [name + equals, *(layers_and_colons(value) if kind == LIST else [value])]


def _same_end(left: bytes, right: bytes) -> int:
    """Return how many bytes at the end are the same; at least one of LEFT is left to replace."""
    most = min(len(left) - 1, len(right))
    same = 0
    while same < most and left[-1 - same] == right[-1 - same]:
        same += 1
    return same


def _apply(text: bytes, edits: list[Edit]) -> bytes:
    done = 0
    pieces = []
    for first, last, new in sorted(edits):
        pieces += [text[done:first], new]
        done = last
    return b"".join([*pieces, text[done:]])
