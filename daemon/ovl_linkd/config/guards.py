"""What is wrong with guarded links: their directory is to hold nothing else.

What lies there on disk is for `ovl-linkd guard` to see.
"""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING

from ovl_linkd.config.node import Key, Node, Problem, find, label, shown, text_at
from ovl_linkd.config.paths import sound
from ovl_linkd.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

#: where others make, replace and remove names (hier(7), file-hierarchy(7)), and the daemon its own
_OTHERS = re.compile(
    r"/(boot|dev|etc|home|media|mnt|opt|root|run|srv|tmp|usr|var|dev/shm|run/(lock|ovl-linkd|user)"
    r"|usr/(bin|lib|lib64|libexec|local|sbin|share|src)"
    r"|var/(cache|lib|local|log|mail|opt|spool|tmp))?"
)


def problems(root: Node, spoken: set[Key]) -> Iterator[tuple[Key, Problem]]:
    """Guarded links whose directory can't be append-only: it is others', or holds more of ours."""
    real = functools.cache(os.path.realpath)
    places: dict[Key, str] = {
        ("links", name): real(os.path.dirname(link.value["path"].value))
        for name, link in sound(root, spoken).items()
    }
    guarded = {key: place for key, place in places.items() if _is_guarded(root, key)}
    rest = {key: place for key, place in places.items() if key not in guarded}
    for other in (("farm", "path"), ("control-socket",), ("metrics-file",)):
        node = text_at(root, other)
        if node is not None and other not in spoken:
            rest[other] = real(os.path.dirname(node.value))
    crowded = _crowded(guarded, rest)
    for key, place in guarded.items():
        if fault := _fault(root, key, place, crowded.get(place)):
            path = (*key, "guard")
            yield path, find(root, path).place.problem(f"{label(path)}: {fault[0]}", fault[1])


def _crowded(guarded: dict[Key, str], rest: dict[Key, str]) -> dict[str, Key]:
    """The directories of GUARDED in which something else lies, too, with one of these."""
    directories = set(guarded.values())
    crowded: dict[str, Key] = {}
    for key, place in [*rest.items(), *guarded.items()]:
        above = place if key in rest else os.path.dirname(place)
        while above != "/":
            if above in directories:
                crowded.setdefault(above, key)
            above = os.path.dirname(above)
    return crowded


def _is_guarded(root: Node, key: Key) -> bool:
    node = text_at(root, (*key, "guard"))
    return node is not None and node.value == "append-only"


def _fault(root: Node, key: Key, place: str, other: Key | None) -> tuple[str, str] | None:
    """Why PLACE, the directory of the link KEY, can't be append-only, and a hint; OTHER lies there,
    too."""
    hint = f"give guarded links a directory of their own: path: /run/ov/{key[-1]}"
    if _OTHERS.fullmatch(place):
        return f"{shown(place)} is others' to write", hint
    if other is not None:
        at = find(root, other).place
        what = f"{label(other)} at {printable(at.file)}:{at.line} lies in {shown(place)}, too"
        return f"{what}, and is no guarded link of it", hint
    unsafe = find(root, key).value.get("allow-unsafe-parent")
    if unsafe is not None and unsafe.value is True:
        return "others may write there, by allow-unsafe-parent", "take one of the two out"
    return None
