"""What the schema says about a configuration, in words; names and time spans.

Each check takes the merged tree and yields problems at the place of the key or value.
"""

from __future__ import annotations

import difflib
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ovl_linkd.config.node import (
    Key,
    Node,
    Place,
    Problem,
    clipped,
    find,
    label,
    mapping,
    quote,
    reading,
    shown,
    text_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 366 * 86400  # seconds; more is a mistake, and timers don't take any number

_UNITS = {
    "us usec": Fraction(1, 1_000_000),
    "ms msec": Fraction(1, 1_000),
    " s sec second seconds": Fraction(1),
    "m min minute minutes": Fraction(60),
    "h hr hour hours": Fraction(3_600),
    "d day days": Fraction(86_400),
    "w week weeks": Fraction(604_800),
}
_SECONDS = {unit: worth for units, worth in _UNITS.items() for unit in units.split(" ")}
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) *([a-z]*) *")


def seconds(text: str) -> float | None:
    """A time span as in systemd.time(7), `1h 30min`, `1500ms`, `20`, in seconds; None if it is
    none. Months and years are not taken: their length isn't one."""
    text = text.strip(" ")
    if not 0 < len(text) <= 100:
        return None
    total, at = Fraction(0), 0
    while at < len(text):
        part = _SPAN.match(text, at)
        # A number without a unit stands alone: `1 30min` is a slip, and so are ten digits.
        if part is None or part[2] not in _SECONDS or (not part[2] and part[0] != text):
            return None
        total += Fraction(part[1]) * _SECONDS[part[2]]
        at = part.end()
    return float(total)


def schema_problems(
    root: Node, errors: Iterator[Any], spoken: set[Key]
) -> Iterator[tuple[Key, Problem]]:
    """What jsonschema's ERRORS say about ROOT, each with the key it is about.

    Left out are keys that are missing, which only the merged whole can tell, and patterns that
    aren't met by what was SPOKEN about: other checks say more.
    """
    for error in errors:
        key = tuple(error.absolute_path)
        if error.validator == "required" or (error.validator == "pattern" and key in spoken):
            continue
        for problem in _schema_problem(root, key, error):
            yield key, problem


def _schema_problem(root: Node, key: Key, error: Any) -> Iterator[Problem]:
    node, rule, wanted = find(root, key), error.validator, error.validator_value
    if "propertyNames" in error.absolute_schema_path:
        yield _bad_name(node.keys[error.instance], error.instance)
    elif rule == "additionalProperties":
        yield from _unknown(node, key, error.schema["properties"])
    elif rule == "type":
        yield _wrong_type(node, key, wanted, error.schema)
    elif rule == "enum":
        # Of another type it was spoken about as such.
        if isinstance(node.value, str):
            yield _not_one_of(node, key, wanted)
    elif rule in ("minimum", "maximum"):
        end = "at least" if rule == "minimum" else "at most"
        yield node.place.problem(f"{label(key)} is {node.value}", f"it must be {end} {wanted}")
    else:
        example = _example(error.schema)
        yield node.place.problem(f"{label(key)} is {shown(node.raw)}", f"write it like {example}")


def _example(schema: dict[str, Any]) -> str:
    candidates = [*schema.get("examples", ()), schema.get("default")]
    return str(next((one for one in candidates if one is not None), schema.get("title", "")))


def _bad_name(place: Place, name: str) -> Problem:
    return place.problem(
        f"{shown(name)} can't name a link",
        "take lower case letters, digits, - and _, at most 64, first a letter or digit",
    )


def _unknown(node: Node, key: Key, known: dict[str, Any]) -> Iterator[Problem]:
    for name in node.value:
        if name in known:
            continue
        where = f" in {label(key)}" if key else ""
        near = difflib.get_close_matches(name.lower().replace("_", "-"), known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        yield node.keys[name].problem(f"unknown key {shown(name)}{where}", hint)


def _wrong_type(node: Node, key: Key, wanted: str | list[str], schema: dict[str, Any]) -> Problem:
    kinds = [wanted] if isinstance(wanted, str) else wanted
    what = f"{label(key)} is {reading(node)}"
    if node.raw and not isinstance(node.value, str):
        what = f"{label(key)}: YAML reads {clipped(node.raw)} as {reading(node)}"
    if "string" in kinds:
        if "integer" in kinds:
            return node.place.problem(what, f"write a time span: {_example(schema)}")
        return node.place.problem(what, quote(node))
    hints = {
        "boolean": "write true or false, without quotes",
        "integer": "write a whole number, without quotes",
        "object": "write a mapping: lines `key: value` indented below it, or {}",
    }
    return node.place.problem(what, hints[kinds[0]])


def _not_one_of(node: Node, key: Key, wanted: list[str]) -> Problem:
    near = difflib.get_close_matches(str(node.value), wanted, 1)
    hint = f"did you mean {near[0]}?" if near else f"write {' or '.join(wanted)}"
    return node.place.problem(f"{label(key)} is {shown(node.raw)}", hint)


def missing_problems(root: Node, properties: dict[str, Any]) -> Iterator[tuple[Key, Problem]]:
    """Required keys that no file has; PROPERTIES is the schema's."""
    rule = properties["links"]["additionalProperties"]
    for name, link in mapping(root.value.get("links")).items():
        yield from _missing(root.value["links"], ("links", name), link, rule)
    if "farm" in root.value:
        yield from _missing(root, ("farm",), root.value["farm"], properties["farm"])


def _missing(
    parent: Node, key: Key, node: Node, rule: dict[str, Any]
) -> Iterator[tuple[Key, Problem]]:
    if not isinstance(node.value, dict):
        return
    for name in rule["required"]:
        if name not in node.value:
            place = parent.keys[str(key[-1])]
            yield key, place.problem(f"{label(key)} has no {name}", f"add `{name}:` below it")


def text_problems(root: Node) -> Iterator[tuple[Key, Problem]]:
    """Time spans that are none, too short or too long; names that the schema's pattern lets pass,
    because its `$` also matches before a last line feed."""
    yield from _span(root, ("resync-interval",), 1)
    yield from _span(root, ("farm", "keep"), 0)
    links = mapping(root).get("links")
    for name in mapping(links):
        if links is not None and name.endswith("\n"):
            yield ("links", name), _bad_name(links.keys[name], name)


def _span(root: Node, key: Key, least: int) -> Iterator[tuple[Key, Problem]]:
    node = text_at(root, key)
    if node is None:
        return
    length = seconds(node.value)
    if length is None:
        what, hint = "is no time span", "write it like 60s, 1h 30min or 1500ms"
    elif length < least:
        what, hint = "is too short", f"it must be at least {least}s"
    elif length > LONGEST:
        what, hint = "is too long", "it must be at most 366d"
    else:
        return
    yield key, node.place.problem(f"{label(key)}: {shown(node.value)} {what}", hint)
