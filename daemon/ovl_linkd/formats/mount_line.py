"""mount(8) command lines, as people keep them and as ``ctr snapshots mounts`` prints them.

Only paths in the options change; all else, comments, quotes and other commands included, stays
byte for byte. A line is judged by the mount(8) that will read it: from util-linux 2.39 on that
hands each value to fsconfig(2), which takes 255 bytes.
"""

import re
from collections.abc import Iterator, Sequence

from ovl_linkd.formats import mount_arguments, shell
from ovl_linkd.formats.judging import BY_VALUE, FORCE, HELPER, MOUNT2, Means, judge
from ovl_linkd.formats.mount_arguments import Call
from ovl_linkd.formats.shell import Word
from ovl_linkd.formats.spelling import (
    Edit,
    Rewritten,
    apart,
    apply,
    changes,
    in_line,
    outcome,
    refuse_unreadable,
)
from ovl_linkd.overlay import shorten
from ovl_linkd.overlay.options import Malformed
from ovl_linkd.overlay.shorten import Plan, Prefix, Tables

# -i, also beside other letters that take no value, or --internal-only: without the helper.
_INTERNAL = re.compile(rb"-[^-LNOTUot]*i.*|--i(?:n.*)?")
_FORCE_NAME = b"LIBMOUNT_FORCE_MOUNT2="
# These take NAME=VALUE words themselves; the shell does where no other program comes first.
_TAKE_ASSIGNMENTS = (b"sudo", b"env")
# Options that name layers, wherever they stand.
_LAYERS = (b"lowerdir=", b"lowerdir+=", b"datadir+=")
_PROGRAMS = (b"sudo", b"doas", b"env", b"exec", b"command", b"nice", b"ionice")


def rewrite(text: bytes, means: Means) -> Rewritten:
    """Shorten the overlay mounts in TEXT.

    Where mount(8) hands options on by value, ``limits.fsconfig`` counts; what is too long for that
    but fits mount(2) gets LIBMOUNT_FORCE_MOUNT2=always in front.
    Raises Malformed, with the line, for options that are malformed or that only a shell could
    know, and for what looks like options over ``limits.mount`` but stands in no mount that could
    be judged.
    """
    plans: list[Plan] = []
    edits: list[Edit] = []
    for call in _overlay_mounts(text, means.limits.mount):
        try:
            plan, force = judge(_options(call), means._replace(way=_way(call, means.way)))
            if plan.fits:
                edits += _edits(text, call, plan.options)
        except Malformed as error:
            raise in_line(text, call.words[call.mount].start, error) from None
        plans.append(plan)
        if force:
            edits.append(_force(call))
    return outcome(text, edits, plans)


def mounts(text: bytes) -> Iterator[bytes]:
    """Yield the options of each overlay mount in TEXT. Raises Malformed as rewrite()."""
    for call in _overlay_mounts(text):
        yield _options(call)


def expand(text: bytes, prefixes: Sequence[Prefix]) -> bytes:
    """Return TEXT with the long names in its overlay mounts. Raises Malformed as rewrite()."""
    edits: list[Edit] = []
    tables = Tables(prefixes)
    for call in _overlay_mounts(text):
        try:
            edits += _edits(text, call, shorten.expand(_options(call), tables))
        except Malformed as error:
            raise in_line(text, call.words[call.mount].start, error) from None
    return apply(text, edits)


def _options(call: Call) -> bytes:
    return b",".join(value.text for value in call.options)


def _overlay_mounts(text: bytes, most: int | None = None) -> Iterator[Call]:
    """Yield the overlay mounts in TEXT. Raises Malformed for one that can't be known.

    And for more than MOST bytes of what looks like options but stands in none of them.
    """
    refuse_unreadable(text, "command lines")
    try:
        commands = shell.commands(text)
    except shell.Unclosed as error:
        unclosed = Malformed("a quote is never closed", "close it")
        raise in_line(text, error.offset, unclosed) from None
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
        raise in_line(
            text,
            suspects[0].start,
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
        raise in_line(text, call.words[call.mount].start, Malformed(*problem))


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


def _way(call: Call, way: str) -> str:
    """Return the way of mount(8) in this CALL: the helper may be skipped, mount(2) forced."""
    if way == HELPER and any(_INTERNAL.fullmatch(x.value) for x in call.words[call.mount + 1 :]):
        # What forces mount(2) does no harm to a mount(8) that uses it anyway.
        way = BY_VALUE
    return MOUNT2 if way == BY_VALUE and _forced(call) else way


def _forced(call: Call) -> bool:
    """Whether the line itself has mount(8) call mount(2)."""
    given = [word.value for word in call.before if word.value.startswith(_FORCE_NAME)]
    return bool(given) and given[-1] == FORCE


def _force(call: Call) -> Edit:
    """Put the assignment before ``mount``, where the last program before it will take it."""
    at = call.words[call.mount].start
    programs = [word.value.rpartition(b"/")[2] for word in call.before]
    programs = [name for name in programs if name in _PROGRAMS]
    if programs and programs[-1] not in _TAKE_ASSIGNMENTS:
        return at, at, b"env " + FORCE + b" "
    return at, at, FORCE + b" "


def _edits(text: bytes, call: Call, options: bytes) -> list[Edit]:
    """Return what changes in TEXT so that the values of ``-o`` are OPTIONS together."""
    found = []
    changed = apart(changes(_options(call), options), [value.text for value in call.options])
    for value, mine in zip(call.options, changed, strict=True):
        if mine:
            moved = [(first + value.offset, last + value.offset, new) for first, last, new in mine]
            found.append((value.word.start, value.word.end, shell.replace(text, value.word, moved)))
    return found
