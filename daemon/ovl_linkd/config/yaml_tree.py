"""YAML text -> a tree whose every key and value knows its file, line and column.

Built from the parser's events rather than by a constructor: so duplicate keys, deep nesting and
multiplying aliases are noticed before anything is built, and a scalar of a kind that no setting
has (a date, an octal number) stays what it is instead of becoming a surprise.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ovl_linkd.config.node import Node, Odd, Place, Problem, clipped, quote, reading, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Bytes of one file. 10,000 links take about 1 MiB.
MAX_BYTES = 4 << 20
#: Nested collections; a configuration has three.
MAX_DEPTH = 16
#: Keys, values and collections of one file, each alias counted with all that it stands for.
MAX_NODES = 400_000

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_TRUE, _FALSE = ("yes", "true", "on"), ("no", "false", "off")
_NULL = ("", "~", "null")
_TAG = "tag:yaml.org,2002:"
_ODD = {
    "float": "a number with a fraction",
    "timestamp": "a date",
    "binary": "binary data",
    "merge": "a merge key",
    "value": "a default key",
}


class UnreadableError(Exception):
    """Text that is no YAML, or more of it than is taken; `problem` says where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def parse(content: bytes, file: str) -> tuple[Node | None, list[Problem]]:
    """The tree of one YAML document, None if it holds nothing, and what is wrong in detail.

    Raises UnreadableError where no tree can be had at all.
    """
    if len(content) > MAX_BYTES:
        whole = Place(file, 0, 0)
        raise UnreadableError(
            whole.problem(f"more than {MAX_BYTES >> 20} MiB", "is it a configuration?")
        )
    builder = _Builder(file)
    return builder.document(_decoded(content, file)), builder.problems


def _decoded(content: bytes, file: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = content[: error.start]
        line = good.count(b"\n") + 1
        column = len(good[good.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        what = f"the byte 0x{content[error.start]:02x} is not UTF-8"
        problem = Problem(file, line, column, what, "save the file as UTF-8")
        raise UnreadableError(problem) from None


class _Builder:
    """Builds nodes from the events of one file. Recursion is bounded by MAX_DEPTH."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.anchors: dict[str, Node | None] = {}
        self.nodes = 0
        self.resolve: Callable[..., Any]
        self.events: Iterator[Any]

    def document(self, text: str) -> Node | None:
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(_checked(text, self.file))
        self.resolve = lambda raw, implicit: loader.resolve(yaml.ScalarNode, raw, implicit)
        self.events = iter(loader.get_event, None)
        try:
            return self._document()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self._place(mark) if mark else Place(self.file, 0, 0)
            what = clipped(error.problem or error.context or "no YAML")
            raise UnreadableError(
                place.problem(f"not YAML: {what}", _syntax_hint(text, place, what))
            ) from None
        except yaml.YAMLError as error:
            what = clipped(str(error).splitlines()[0])
            raise UnreadableError(Place(self.file, 0, 0).problem(f"not YAML: {what}")) from None
        finally:
            loader.dispose()

    def _document(self) -> Node | None:
        root: Node | None = None
        for event in self.events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                if root is not None:
                    raise self._fatal(event, "a second document", "keep one; take `---` out")
                root = self._node(next(self.events), 0)
        return root if root is not None and root.value is not None else None

    def _place(self, mark: Any) -> Place:
        return Place(self.file, mark.line + 1, mark.column + 1)

    def _fatal(self, event: Any, what: str, hint: str) -> UnreadableError:
        return UnreadableError(self._place(event.start_mark).problem(what, hint))

    def _node(self, event: Any, depth: int) -> Node:
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event, depth)
        self._count(self._place(event.start_mark), 1)
        if depth > MAX_DEPTH:
            raise self._fatal(event, f"nested more than {MAX_DEPTH} deep", "write it flatter")
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if kind == "ScalarEvent":
            node = self._scalar(event)
        elif kind == "MappingStartEvent":
            node = self._mapping(event, depth)
        else:
            node = self._sequence(event, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _count(self, place: Place, more: int) -> None:
        self.nodes += more
        if self.nodes > MAX_NODES:
            what = f"more than {MAX_NODES} keys and values"
            raise UnreadableError(place.problem(what, "aliases count for all that they repeat"))

    def _alias(self, event: Any, depth: int) -> Node:
        name = clipped(event.anchor)
        node = self.anchors.get(event.anchor)
        if node is None:
            if event.anchor in self.anchors:
                raise self._fatal(event, f"the alias *{name} stands inside itself", "write it out")
            raise self._fatal(
                event,
                f"the alias *{name} has no anchor before it",
                f"write &{name} first",
            )
        self._count(self._place(event.start_mark), node.size)
        if depth + node.depth > MAX_DEPTH:
            raise self._fatal(event, f"nested more than {MAX_DEPTH} deep", "write it flatter")
        # A value is best sought where its key stands; what a collection holds, where it is written.
        return node if node.depth else node._replace(place=self._place(event.start_mark))

    def _scalar(self, event: Any) -> Node:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self.resolve(event.value, event.implicit)
        return Node(_read(tag, event.value), self._place(event.start_mark), event.value)

    def _sequence(self, event: Any, depth: int) -> Node:
        items: list[Node] = []
        while type(inner := next(self.events)).__name__ != "SequenceEndEvent":
            items.append(self._node(inner, depth + 1))
        return self._collection(event, "seq", items, items, {})

    def _mapping(self, event: Any, depth: int) -> Node:
        entries: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        while type(inner := next(self.events)).__name__ != "MappingEndEvent":
            place = self._place(inner.start_mark)
            key = self._node(inner, depth + 1)
            value = self._node(next(self.events), depth + 1)
            if isinstance(key.value, Odd) and key.value.kind == _ODD["merge"]:
                self._merge(place, value, entries, keys)
            elif (name := self._key(place, key)) is not None:
                self._enter(name, place, value, entries, keys)
        return self._collection(event, "map", entries, list(entries.values()), keys)

    def _collection(
        self, event: Any, tag: str, value: Any, children: list[Node], keys: dict[str, Place]
    ) -> Node:
        place = self._place(event.start_mark)
        if event.tag not in (None, "!", _TAG + tag):
            return Node(Odd(event.tag, f"a value of the type {clipped(event.tag)}"), place)
        depth = 1 + max((child.depth for child in children), default=0)
        size = 1 + sum(child.size + 1 for child in children)
        return Node(value, place, keys=keys, depth=depth, size=size)

    def _key(self, place: Place, key: Node) -> str | None:
        if isinstance(key.value, str):
            return key.value
        if key.depth:
            self.problems.append(place.problem("a key that is no plain text", "write a name"))
        else:
            self.problems.append(
                place.problem(
                    f"the key {clipped(key.raw)} is read by YAML as {reading(key)}", quote(key)
                )
            )
        return None

    def _enter(
        self, name: str, place: Place, value: Node,
        entries: dict[str, Node], keys: dict[str, Place],
    ) -> None:  # fmt: skip
        if name in entries:
            self.problems.append(
                place.problem(
                    f"the key {shown(name)} is there twice",
                    f"take one out; the other is at line {keys[name].line}",
                )
            )
            return
        entries[name] = value
        keys[name] = place

    def _merge(
        self, place: Place, value: Node, entries: dict[str, Node], keys: dict[str, Place]
    ) -> None:
        """Take over the entries of a `<<: *alias`; one that is there already is a duplicate."""
        for mapping in value.value if isinstance(value.value, list) else [value]:
            if not isinstance(mapping.value, dict):
                self.problems.append(place.problem("<< takes mappings only", "write the keys out"))
                continue
            self._count(place, mapping.size)
            for name, entry in mapping.value.items():
                self._enter(name, place, entry, entries, keys)


def _checked(text: str, file: str) -> str:
    """TEXT, unless it holds a character that YAML forbids: the parser wouldn't say where."""
    bad = re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]", text)
    if bad is None:
        return text
    line = text.count("\n", 0, bad.start()) + 1
    column = bad.start() - text.rfind("\n", 0, bad.start())
    what = f"the control character {shown(bad.group())}"
    hint = "take it out, or write it as an escape in double quotes"
    raise UnreadableError(Problem(file, line, column, what, hint))


def _syntax_hint(text: str, place: Place, what: str) -> str:
    """What most likely helps: tabs and a colon without quotes make most syntax errors."""
    lines = text.splitlines()
    line = lines[place.line - 1] if 0 < place.line <= len(lines) else ""
    if "\t" in line and ("indent" in what or "token" in what):
        return "indent with spaces, not tabs"
    if "mapping values" in what:
        return "put a text that holds a colon in quotes"
    return "look at the indentation and the quotes here and in the line before"


def _read(tag: str, raw: str) -> Any:
    """The value of a scalar, by the tag that YAML gives it and its text."""
    name = tag.removeprefix(_TAG) if tag.startswith(_TAG) else ""
    if name == "str":
        return raw if not re.search("[\ud800-\udfff]", raw) else Odd(raw, "half a character")
    if name == "bool" and raw.lower() in _TRUE + _FALSE:
        return raw.lower() in _TRUE
    if name == "null" and raw.lower() in _NULL:
        return None
    if name == "int":
        return int(raw) if _INTEGER.fullmatch(raw) else Odd(raw, _number(raw))
    if name == "float" and ":" in raw:
        return Odd(raw, "a number to the base 60")
    return Odd(raw, _ODD.get(name) or f"a value of the type {clipped(tag)}")


def _number(raw: str) -> str:
    digits = raw.lstrip("+-").lower()
    for start, kind in (("0x", "hexadecimal"), ("0b", "binary"), ("0", "octal")):
        if digits.startswith(start):
            return f"a number in {kind}"
    if ":" in raw:
        return "a number to the base 60"
    return "a number with underscores" if "_" in raw else "a number with too many digits"
