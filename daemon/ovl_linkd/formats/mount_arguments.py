"""Where a mount(8) command line holds its type and its options.

Source: the getopt_long() table in util-linux' sys-utils/mount.c.
"""

import re
from typing import NamedTuple

from ovl_linkd.formats.shell import Word

_SHORT_WITH_VALUE = b"LNOTUot"
_LONG_WITH_VALUE = (
    *(b"fstab", b"label", b"map-groups", b"map-users", b"namespace", b"options"),
    *(b"options-mode", b"options-source", b"source", b"target", b"target-prefix"),
    *(b"test-opts", b"types", b"uuid"),
)
_OPTIONS = b"options"
_TYPES = b"types"

_ASSIGNMENT = re.compile(rb"[A-Za-z_]\w*=", re.ASCII)
# What may stand before mount without changing what it mounts or where.
_WRAPPERS = frozenset(
    (
        *(b"sudo", b"doas", b"env", b"exec", b"command", b"nice", b"ionice", b"time"),
        *(b"if", b"then", b"else", b"elif", b"while", b"until", b"do", b"!", b"{"),
    )
)
_WRAPPER_OPTIONS_WITH_VALUE = (b"-u", b"-g", b"-U", b"-p", b"-n", b"-c")


class Value(NamedTuple):
    """The value of an option: the word that holds it, and where in the word it begins."""

    word: Word
    offset: int

    @property
    def text(self) -> bytes:
        """The value itself."""
        return self.word.value[self.offset :]


class Call(NamedTuple):
    """A call of mount(8).

    ``mount``: index of the word ``mount``. ``understood``: whether the words before it leave it
    what it is. ``options``, ``types``: the values of each ``-o`` and ``-t``, in order.
    """

    words: list[Word]
    mount: int
    understood: bool
    options: tuple[Value, ...]
    types: tuple[Value, ...]

    @property
    def before(self) -> list[Word]:
        """Assignments and wrappers before the word ``mount``."""
        return self.words[: self.mount]


def read(words: list[Word]) -> Call | None:
    """Return the call of mount(8) that WORDS make; None where they make none."""
    for at, word in enumerate(words):
        if word.value == b"mount" or word.value.endswith(b"/mount"):
            values = list(_values(words[at + 1 :]))
            options = tuple(value for name, value in values if name == _OPTIONS)
            types = tuple(value for name, value in values if name == _TYPES)
            return Call(words, at, _only_wrappers(words[:at]), options, types)
    return None


def is_assignment(word: Word) -> bool:
    """Whether WORD is NAME=VALUE, as stands before a command."""
    return _ASSIGNMENT.match(word.value) is not None


def _only_wrappers(words: list[Word]) -> bool:
    previous = b""
    for word in words:
        is_value = previous in _WRAPPER_OPTIONS_WITH_VALUE and word.value not in _WRAPPERS
        name = word.value.rpartition(b"/")[2]
        known = name in _WRAPPERS or word.value.startswith(b"-") or is_assignment(word)
        if not known and not (is_value and (previous != b"-n" or word.value.isdigit())):
            return False
        previous = word.value
    return True


def _values(words: list[Word]) -> "list[tuple[bytes, Value]]":
    found: list[tuple[bytes, Value]] = []
    waiting: bytes | None = None
    for word in words:
        if waiting is not None:
            found.append((waiting, Value(word, 0)))
            waiting = None
        elif word.value == b"--":
            break
        elif word.value.startswith(b"--"):
            waiting = _long(word, found)
        elif word.value.startswith(b"-"):
            waiting = _short(word, found)
    return found


def _long(word: Word, found: list[tuple[bytes, Value]]) -> bytes | None:
    """Read ``--NAME`` or ``--NAME=VALUE``; return the name if its value is the next word."""
    typed, equals, _ = word.value[2:].partition(b"=")
    names = [name for name in _LONG_WITH_VALUE if name.startswith(typed)]
    name = typed if typed in names else names[0] if len(names) == 1 else None
    if name is not None and equals:
        found.append((name, Value(word, len(typed) + 3)))
        return None
    return name


def _short(word: Word, found: list[tuple[bytes, Value]]) -> bytes | None:
    """Read ``-abc``, of which the last may take a value: the rest of the word or the next."""
    for at in range(1, len(word.value)):
        letter = word.value[at : at + 1]
        if letter in _SHORT_WITH_VALUE:
            name = {b"o": _OPTIONS, b"t": _TYPES}.get(letter, letter)
            if at + 1 == len(word.value):
                return name
            found.append((name, Value(word, at + 1)))
            return None
    return None
