"""Values with their places, and what is said about them: what this package shares."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from ovl_linkd.errors import UserError
from ovl_linkd.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping


#: A way of names and indices into the tree.
Key = tuple[str | int, ...]


class Problem(NamedTuple):
    """One thing that is wrong. Line and column count from 1; line 0 means the file as a whole."""

    file: str
    line: int
    column: int
    what: str
    hint: str

    def __str__(self) -> str:
        place = f"{self.line}:{self.column}: " if self.line else " "
        tail = f", {self.hint}" if self.hint else ""
        return f"{printable(self.file)}:{place}{self.what}{tail}"


class ConfigError(Exception):
    """A configuration that can't be used: `problems` holds everything that is wrong with it.

    `passing`: it may well be right, but the machine could not read it for the moment.
    """

    def __init__(self, problems: tuple[Problem, ...], passing: bool = False) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
        self.passing = passing

    def told(self, file: str | None) -> UserError:
        """What a person is told of it, with exit code 1; FILE: what was to be read, None for the
        standard places."""
        return UserError(str(self), check_of(file))


def check_of(file: str | None) -> str:
    """The command line that tells what is wrong with FILE, None for the standard places."""
    import shlex

    return f"ovl-linkd check --config {shlex.quote(file)}" if file else "ovl-linkd check"


class Place(NamedTuple):
    """Where something is written, counted as in Problem."""

    file: str
    line: int
    column: int

    def problem(self, what: str, hint: str = "") -> Problem:
        """A Problem at this place."""
        return Problem(*self, what, hint)


class Odd(NamedTuple):
    """A scalar that YAML reads as something that no setting is: `0755`, `1:30`, a date."""

    raw: str
    kind: str


class Node(NamedTuple):
    """A value with its place. `value` is a str, int, bool, None, Odd, a list of Node or a dict
    of str to Node; `keys` holds the places of a dict's keys, `raw` a scalar's text as written,
    `depth` the collections inside each other, `size` the nodes in all."""

    value: Any
    place: Place
    raw: str = ""
    keys: Mapping[str, Place] = MappingProxyType({})
    depth: int = 0
    size: int = 1


def clipped(text: str, most: int = 80) -> str:
    """TEXT on one line; past MOST characters its middle left out."""
    text = printable(text)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) :]}"


def shown(text: str) -> str:
    """TEXT in quotes for a message, on one line of bearable length."""
    return f'"{clipped(text)}"'


def reading(node: Node) -> str:
    """What YAML takes NODE for, in words: "true", "a number", "a date", "a list"."""
    value = node.value
    if isinstance(value, Odd):
        return value.kind
    if isinstance(value, bool):
        return "true" if value else "false"
    for kind, words in ((dict, "a mapping"), (list, "a list"), (str, "a text"), (int, "a number")):
        if isinstance(value, kind):
            return words
    return "nothing"


def quote(node: Node) -> str:
    """The hint for a scalar that was meant as text."""
    return f"write it in quotes: {shown(node.raw)}" if node.raw else "write a text"


def find(root: Node, key: Key) -> Node:
    """The node at KEY, a way of names and indices from ROOT."""
    for step in key:
        root = root.value[step]
    return root


def label(key: Key) -> str:
    """KEY as a person writes it: links.ctrdl.path."""
    return clipped(".".join(str(step) for step in key), 120) or "the configuration"


def mapping(node: Node | None) -> dict[str, Node]:
    """NODE's entries; none if it is no mapping."""
    return node.value if node is not None and isinstance(node.value, dict) else {}


def text_at(root: Node, key: Key) -> Node | None:
    """The node at KEY if there is one and it is a text."""
    node: Node | None = root
    for step in key:
        node = mapping(node).get(str(step))
    return node if node is not None and isinstance(node.value, str) else None
