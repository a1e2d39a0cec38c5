"""Shell words, with every byte's place in the text, so that a part can change and the rest stay.

Reads what POSIX sh and bash agree on: blanks, newlines, the three quotes, comments and operators
(POSIX.1-2017, XCU 2.2, 2.3). What only a running shell can know is marked, never guessed.
"""

import re
from itertools import pairwise
from typing import NamedTuple

BARE = 0
SINGLE = 1
DOUBLE = 2

_BLANK = b" \t"
_OPERATORS = b";&|()<>"
_DOUBLE_ESCAPES = (b"$", b"`", b'"', b"\\")
# Expanded by the shell when bare: parameters and commands, patterns, braces.
_EXPANDS = b"$`*?[{"
_PLAIN = re.compile(rb"[^\s;&|()<>'\"\\$`*?\[{#~]+")
_EXPANSION = re.compile(rb"\$\(|\$\{?\w{0,40}\}?|.", re.DOTALL)
_LONE_DOLLAR = re.compile(rb"\$(?=[\s/:,.]|\Z)")
_UNSAFE_BARE = re.compile(rb"[^\w@%+=:,./-]", re.ASCII)
_UNSAFE_DOUBLE = re.compile(rb'[$`"\\]')


class Unclosed(ValueError):
    """A quote that begins at byte ``offset`` and never ends."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the quote at offset {offset:,} is never closed")
        self.offset = offset


class Word(NamedTuple):
    """One word of a command.

    ``value``: what the program is given. ``places``: for each byte of it, where it stands in the
    text: first byte, byte after the last, quoting. ``start``, ``end``: the whole word there.
    ``unknown``: the first thing in it that only a running shell knows, such as ``$VAR``.
    """

    value: bytes
    places: tuple[tuple[int, int, int], ...]
    start: int
    end: int
    unknown: str | None


def commands(text: bytes) -> list[list[Word]]:
    """Return the simple commands in TEXT, each as its words. Raises Unclosed."""
    found: list[list[Word]] = []
    words: list[Word] = []
    at = 0
    while at < len(text):
        byte = text[at : at + 1]
        if byte in (b"<", b">"):
            # A redirection belongs to its command; its operator may hold an ampersand.
            at += 1 + (text[at + 1 : at + 2] == b"&")
        elif byte in (b"\n", b";", b"&", b"|", b"(", b")"):
            found.append(words)
            words = []
            at += 1
        elif byte in (b" ", b"\t"):
            at += 1
        elif text.startswith(b"\\\n", at):
            at += 2
        elif byte == b"#":
            at = _end_of_line(text, at)
        else:
            word = _word(text, at)
            words.append(word)
            at = word.end
    found.append(words)
    return [command for command in found if command]


def replace(text: bytes, word: Word, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Return WORD as TEXT spells it, with EDITS made in its value, in the quoting it has there.

    Each edit is (first byte, byte after the last, new bytes) in ``word.value``; they are in order
    and don't overlap. Where the quoting changes within an edit the whole word is quoted anew.
    """
    done = word.start
    pieces = []
    for first, last, new in edits:
        places = word.places[first:last]
        spelt = _spell(new, places[0][2]) if _in_one_quoting(text, places) else None
        if spelt is None:
            return _requoted(word, edits)
        pieces += [text[done : places[0][0]], spelt]
        done = places[-1][1]
    pieces.append(text[done : word.end])
    return b"".join(pieces)


def _end_of_line(text: bytes, at: int) -> int:
    end = text.find(b"\n", at)
    return len(text) if end < 0 else end


def _word(text: bytes, start: int) -> Word:
    reader = _Reader(text, start)
    reader.read()
    # Of an escape the last byte is the one that is meant.
    value = bytes([text[end - 1] for _, end, _ in reader.places])
    return Word(value, tuple(reader.places), start, reader.at, reader.unknown)


class _Reader:
    """Reads one word: ``places`` as in Word, ``at`` the byte after what was read."""

    def __init__(self, text: bytes, start: int) -> None:
        self.text = text
        self.start = start
        self.at = start
        self.places: list[tuple[int, int, int]] = []
        self.unknown: str | None = None

    def read(self) -> None:
        while self.at < len(self.text):
            plain = _PLAIN.match(self.text, self.at)
            if plain:
                self.places += [(at, at + 1, BARE) for at in range(self.at, plain.end())]
                self.at = plain.end()
                continue
            byte = self.text[self.at]
            if byte in _BLANK or byte in _OPERATORS or byte == 0x0A:
                return
            if byte == 0x27:
                self._single()
            elif byte == 0x22:
                self._double()
            elif byte == 0x5C:
                self._escaped()
            else:
                self._bare(byte)

    def _bare(self, byte: int) -> None:
        tilde = byte == 0x7E and self._begins_path()
        if tilde or (byte in _EXPANDS and not self._lone_dollar()):
            self._mark()
        self._take(BARE)

    def _single(self) -> None:
        end = self.text.find(b"'", self.at + 1)
        if end < 0:
            raise Unclosed(self.at)
        self.places += [(at, at + 1, SINGLE) for at in range(self.at + 1, end)]
        self.at = end + 1

    def _double(self) -> None:
        opened = self.at
        self.at += 1
        while self.at < len(self.text):
            byte = self.text[self.at]
            if byte == 0x22:
                self.at += 1
                return
            if byte == 0x5C and self.text[self.at + 1 : self.at + 2] == b"\n":
                self.at += 2
            elif byte == 0x5C and self.text[self.at + 1 : self.at + 2] in _DOUBLE_ESCAPES:
                self._take(DOUBLE, 2)
            else:
                if byte in b"$`" and not self._lone_dollar():
                    self._mark()
                self._take(DOUBLE)
        raise Unclosed(opened)

    def _escaped(self) -> None:
        if self.text[self.at + 1 : self.at + 2] == b"\n":
            self.at += 2
        elif self.at + 1 == len(self.text):
            self._take(BARE)
        else:
            self._take(BARE, 2)

    def _take(self, quoting: int, size: int = 1) -> None:
        self.places.append((self.at, self.at + size, quoting))
        self.at += size

    def _begins_path(self) -> bool:
        """Whether some shell expands a tilde that stands here.

        bash does so after = and : as well, in any word that looks like an assignment.
        """
        if not self.places:
            return self.at == self.start
        return self.text[self.places[-1][1] - 1] in b"=:"

    def _lone_dollar(self) -> bool:
        """Whether a dollar sign stands here that begins nothing, and so stands for itself."""
        return _LONE_DOLLAR.match(self.text, self.at) is not None

    def _mark(self) -> None:
        if self.unknown is None:
            shown = _EXPANSION.match(self.text, self.at)
            self.unknown = (shown.group() if shown else b"").decode("ascii", "backslashreplace")


def _in_one_quoting(text: bytes, places: tuple[tuple[int, int, int], ...]) -> bool:
    """Whether nothing but the bytes of PLACES stands between the first and the last."""
    # Where the quoting changes, a quote stands between.
    return bool(places) and all(
        left[1] == right[0] or text[left[1] : right[0]] == b"\\\n"
        for left, right in pairwise(places)
    )


def _spell(value: bytes, quoting: int) -> bytes | None:
    if quoting == SINGLE:
        return None if b"'" in value else value
    if quoting == DOUBLE:
        return _UNSAFE_DOUBLE.sub(rb"\\\g<0>", value)
    return None if b"\n" in value else _UNSAFE_BARE.sub(rb"\\\g<0>", value)


def _requoted(word: Word, edits: list[tuple[int, int, bytes]]) -> bytes:
    value = word.value
    for first, last, new in reversed(edits):
        value = value[:first] + new + value[last:]
    return b"'" + value.replace(b"'", b"'\\''") + b"'"
