"""Options as a file spells them, and how paths in them change while every other byte stays.

Each format reads a text into Spelt values, has the options in them planned, and gets back the
edits that make the file say what was planned.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ovl_linkd.overlay.options import (
    LIST,
    MAX_TEXT,
    SPELLING,
    Malformed,
    layers_and_colons,
    parse,
)
from ovl_linkd.overlay.shorten import Plan

#: bytes of JSON that are looked at: a config.json has some 10 KB, and thousands of mounts a few MB
MOST_JSON = 16 << 20
#: bytes of mountinfo: a line may have 64 KiB, and a machine thousands of them
MOST_MOUNTINFO = 64 << 20

#: first byte, byte after the last, and what stands there instead
Edit = tuple[int, int, bytes]

_OCTAL = re.compile(rb"\\([0-7]{3})")


class Rewritten(NamedTuple):
    """``text``: what to use, empty unless every plan fits. One plan an overlay mount."""

    text: bytes
    plans: tuple[Plan, ...]


class Spelt(NamedTuple):
    """A value and where its bytes stand in the text that spells it.

    ``starts``: for each byte of ``value`` where its spelling begins, and where the last one ends.
    Bytes that share one escape have the same place.
    """

    value: bytes
    starts: Sequence[int]


def plain(text: bytes, first: int, last: int) -> Spelt:
    """Return TEXT from FIRST up to LAST as a value that is spelt without any escape."""
    return Spelt(text[first:last], range(first, last + 1))


def octal(text: bytes, first: int, last: int) -> Spelt:
    r"""Return TEXT from FIRST up to LAST without its octal escapes: ``\040`` is a space."""
    if text.find(b"\\", first, last) < 0:
        return plain(text, first, last)
    value = bytearray()
    starts = []
    at = first
    while at < last:
        starts.append(at)
        escape = _OCTAL.match(text, at, last)
        value.append(int(escape[1], 8) & 0xFF if escape else text[at])
        at += 4 if escape else 1
    return Spelt(bytes(value), [*starts, last])


def changes(old: bytes, new: bytes) -> list[Edit]:
    """Return where in the options OLD paths change so that they become NEW."""
    found: list[Edit] = []
    at = 0
    for was, becomes in zip(parse(old).parts, parse(new).parts, strict=True):
        for left, right in zip(_tokens(was), _tokens(becomes), strict=True):
            if left != right:
                same = same_end(left, right)
                found.append((at, at + len(left) - same, right[: len(right) - same]))
            at += len(left)
        at += 1
    return found


def apart(edits: Iterable[Edit], pieces: Sequence[bytes]) -> list[list[Edit]]:
    """Return EDITS of PIECES, joined by commas, as those of each piece.

    Raises Malformed for one that reaches over a comma between two pieces.
    """
    found: list[list[Edit]] = []
    left = list(edits)
    at = 0
    for piece in pieces:
        end = at + len(piece)
        mine = [(first - at, last - at, new) for first, last, new in left if at <= first < end]
        if any(last > len(piece) for _, last, _ in mine):
            raise Malformed(
                "a backslash at the end of one option escapes the comma before the next",
                "write both as one option",
            )
        found.append(mine)
        left = left[len(mine) :]
        at = end + 1
    return found


def respelt(spelt: Spelt, edits: Iterable[Edit], spell: Callable[[bytes], bytes]) -> list[Edit]:
    """Return EDITS of a value as those of the text that spells it; SPELL escapes what is new."""
    value, starts = spelt
    found = []
    for first, last, new in edits:
        # An escape that stands for several bytes changes as a whole.
        while first and starts[first - 1] == starts[first]:
            first -= 1
            new = value[first : first + 1] + new
        while last < len(value) and starts[last - 1] == starts[last]:
            new += value[last : last + 1]
            last += 1
        found.append((starts[first], starts[last], spell(new)))
    return found


def apply(text: bytes, edits: Iterable[Edit]) -> bytes:
    """Return TEXT with EDITS, which don't overlap."""
    done = 0
    pieces = []
    for first, last, new in sorted(edits):
        pieces += [text[done:first], new]
        done = last
    return b"".join([*pieces, text[done:]])


def outcome(text: bytes, edits: Iterable[Edit], plans: Sequence[Plan]) -> Rewritten:
    """Return TEXT with EDITS where all PLANS fit, else nothing that could be used."""
    fits = all(plan.fits for plan in plans)
    return Rewritten(apply(text, edits) if fits else b"", tuple(plans))


def refuse_unreadable(text: bytes, what: str, most: int = MAX_TEXT) -> None:
    """Raise Malformed where TEXT, WHAT in words, is too large to be looked at, or binary."""
    if len(text) > most:
        raise Malformed(f"{len(text):,} bytes of {what}", f"at most {most:,} bytes are looked at")
    if b"\0" in text:
        raise Malformed(f"a NUL byte at offset {text.index(0):,}", f"{what} are text")


def in_line(text: bytes, offset: int, error: Malformed) -> Malformed:
    """Return ERROR with the number of the line in which OFFSET lies, counted from 1."""
    line = text.count(b"\n", 0, offset) + 1
    return Malformed(f"line {line}: {error.what}", error.hint)


def _tokens(part: bytes) -> list[bytes]:
    name, equals, value = part.partition(b"=")
    kind = SPELLING.get(name)
    if kind is None or not equals:
        return [part]
    return [name + equals, *(layers_and_colons(value) if kind == LIST else [value])]


def same_end(left: bytes, right: bytes) -> int:
    """Return how many bytes at the end are the same; at least one of LEFT is left to replace."""
    most = min(len(left) - 1, len(right))
    same = 0
    while same < most and left[-1 - same] == right[-1 - same]:
        same += 1
    return same
