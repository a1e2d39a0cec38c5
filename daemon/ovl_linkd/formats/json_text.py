"""JSON with every value's place in the text, so that a string can change and the rest stay.

Source: RFC 8259. Read strictly, as Go's encoding/json does, but for bytes in strings that are not
UTF-8, which matter only where a string is looked at. Like it, keys are found whatever their case.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from ovl_linkd.formats.spelling import Spelt, plain
from ovl_linkd.overlay.options import Malformed

#: how deep arrays and objects may nest
DEEPEST = 100

_BLANKS = re.compile(rb"[ \t\n\r]*")
# Possessive: where the end is missing, all ways to part the text would be tried otherwise.
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9A-Fa-f]{4})*+"')
_SCALAR = re.compile(rb"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_ESCAPE = re.compile(rb"\\u[0-9A-Fa-f]{4}|\\.")
_UNSAFE = re.compile(rb'["\\\x00-\x1f]')
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}

OBJECT, ARRAY, STRING, SCALAR = "an object", "a list", "a string", "a number, true, false or null"


class Ambiguous(Malformed):
    """What programs read differently: a key that is there twice, a string that is not UTF-8."""


class Value(NamedTuple):
    """A value and where it stands in ``text``.

    ``items``: of a list its values; of an object its keys, which are strings, and their values in
    turn.
    """

    text: bytes
    kind: str
    start: int
    end: int
    items: "tuple[Value, ...]" = ()

    def get(self, name: str) -> "Value | None":
        """Return what an object has under NAME; null is nothing.

        Raises Ambiguous where it has that twice.
        """
        found = [
            value
            for key, value in zip(self.items[::2], self.items[1::2], strict=True)
            if key.string().value.lower() == name.lower().encode()
        ]
        if len(found) > 1:
            raise located(
                self.text,
                found[1].start,
                Ambiguous(f"{name} is there twice", "programs differ in which one they take"),
            )
        return found[0] if found and found[0].raw != b"null" else None

    @property
    def raw(self) -> bytes:
        """The value as it stands."""
        return self.text[self.start : self.end]

    def string(self) -> Spelt:
        """Return what a string says, in UTF-8. Raises Ambiguous where it says no characters."""
        first, last = self.start + 1, self.end - 1
        if self.text.find(b"\\", first, last) < 0:
            spelt = plain(self.text, first, last)
        else:
            spelt = _unescaped(self.text, first, last)
        try:
            spelt.value.decode()
        except UnicodeDecodeError:
            raise located(
                self.text, self.start, Ambiguous("a string that is not UTF-8", "no JSON holds it")
            ) from None
        return spelt

    def says(self, text: bytes) -> bool:
        """Whether this is the string TEXT."""
        return self.kind == STRING and self.string().value == text

    def expect(self, kind: str, what: str) -> "Value":
        """Return this value, of KIND. Raises Malformed, naming WHAT, where it is another."""
        if self.kind != kind:
            raise located(
                self.text, self.start, Malformed(f"{what} is {self.kind}", f"{kind} belongs here")
            )
        return self


def read(text: bytes) -> Value:
    """Return the value that TEXT is. Raises Malformed, with line and column."""
    reader = _Reader(text)
    value = reader.value(0)
    reader.skip()
    if reader.at < len(text):
        raise reader.wrong("something follows the end of the JSON", "take it away")
    return value


def first(text: bytes) -> Value:
    """Return the value that TEXT begins with, as Go's json.Decoder does. Raises as read()."""
    return _Reader(text).value(0)


def spell(value: bytes) -> bytes:
    """Return VALUE as it stands in a string. Raises Malformed where no JSON can hold it."""
    return _UNSAFE.sub(_escaped, value)


def located(text: bytes, offset: int, error: Malformed) -> Malformed:
    """Return ERROR with the line and column of OFFSET, counted from 1."""
    line = text.count(b"\n", 0, offset) + 1
    column = offset - text.rfind(b"\n", 0, offset)
    return type(error)(f"line {line}, column {column:,}: {error.what}", error.hint)


class _Reader:
    """Reads one value after the other; ``at`` is the byte after what was read."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = 0

    def skip(self) -> None:
        found = _BLANKS.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def value(self, depth: int) -> Value:
        self.skip()
        start = self.at
        if depth > DEEPEST:
            raise self.wrong("nested too deeply", f"at most {DEEPEST} levels are looked at")
        match self.text[start : start + 1]:
            case b"{":
                items = tuple(self._members(depth + 1))
                return Value(self.text, OBJECT, start, self.at, items)
            case b"[":
                items = tuple(self._elements(depth + 1))
                return Value(self.text, ARRAY, start, self.at, items)
            case b'"':
                return self._string()
        found = _SCALAR.match(self.text, start)
        if not found:
            raise self.wrong("no value", "the JSON is cut off, or written by hand?")
        self.at = found.end()
        return Value(self.text, SCALAR, start, self.at)

    def wrong(self, what: str, hint: str) -> Malformed:
        return located(self.text, self.at, Malformed(what, hint))

    def _elements(self, depth: int) -> Iterator[Value]:
        self.at += 1
        if self._take(b"]"):
            return
        while True:
            yield self.value(depth)
            if self._take(b"]"):
                return
            self._need(b",", "a list that is never closed")

    def _members(self, depth: int) -> Iterator[Value]:
        self.at += 1
        if self._take(b"}"):
            return
        while True:
            self.skip()
            if self.text[self.at : self.at + 1] != b'"':
                raise self.wrong("no key", 'a key is a string: "key": value')
            yield self._string()
            self._need(b":", "no colon after a key")
            yield self.value(depth)
            if self._take(b"}"):
                return
            self._need(b",", "an object that is never closed")

    def _string(self) -> Value:
        found = _STRING.match(self.text, self.at)
        if not found:
            raise self.wrong(
                "a string that is never closed, or holds a wrong escape", "the JSON is cut off?"
            )
        start, self.at = found.span()
        return Value(self.text, STRING, start, self.at)

    def _take(self, byte: bytes) -> bool:
        self.skip()
        there = self.text[self.at : self.at + 1] == byte
        self.at += there
        return there

    def _need(self, byte: bytes, otherwise: str) -> None:
        if not self._take(byte):
            raise self.wrong(otherwise, f"a {byte.decode()} belongs here; the JSON is cut off?")


def _unescaped(text: bytes, first: int, last: int) -> Spelt:
    value = bytearray()
    starts: list[int] = []
    at = first
    while at < last:
        escape = _ESCAPE.match(text, at, last)
        if not escape:
            value.append(text[at])
            starts.append(at)
            at += 1
            continue
        char, end = _character(text, at, last)
        value += char
        starts += [at] * len(char)
        at = end
    return Spelt(bytes(value), [*starts, last])


def _character(text: bytes, at: int, last: int) -> tuple[bytes, int]:
    """Return what the escape at AT stands for, in UTF-8, and the byte after it.

    Half of a surrogate pair becomes bytes that are not UTF-8.
    """
    letter = text[at + 1 : at + 2]
    if letter != b"u":
        return _LETTERS.get(letter, letter), at + 2
    code, end = int(text[at + 2 : at + 6], 16), at + 6
    if 0xD800 <= code < 0xDC00 and text.startswith(b"\\u", end) and end + 6 <= last:
        low = int(text[end + 2 : end + 6], 16)
        if 0xDC00 <= low < 0xE000:
            code, end = 0x10000 + ((code - 0xD800) << 10) + low - 0xDC00, end + 6
    return chr(code).encode("utf-8", "surrogatepass"), end


def _escaped(match: re.Match[bytes]) -> bytes:
    byte = match.group()
    return b"\\" + byte if byte in b'"\\' else b"\\u%04x" % byte[0]
