"""What is wrong with the paths of a configuration: what no schema can say.

Each check takes the merged tree and yields problems at the place of the value.
"""

from __future__ import annotations

import functools
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from ovl_linkd.config.node import Key, Node, Problem, find, label, mapping, shown, text_at
from ovl_linkd.links.walk import MAX_SYMLINKS, NAME_MAX, PATH_MAX, unsafe_ancestor
from ovl_linkd.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUN_PATH_MAX = 103  # sockaddr_un.sun_path, less the NUL (unix(7)) and `.new` while it is made


def path_problems(root: Node) -> Iterator[tuple[Key, Problem]]:
    """Everything that is wrong with a path by its text alone."""
    for name in mapping(mapping(root).get("links")):
        yield from _path(root, ("links", name, "path"), in_options=True)
        yield from _path(root, ("links", name, "target"))
    yield from _path(root, ("farm", "path"), in_options=True)
    yield from _path(root, ("control-socket",), most=SUN_PATH_MAX)
    yield from _path(root, ("metrics-file",))


def _path(
    root: Node, key: Key, in_options: bool = False, most: int = PATH_MAX
) -> Iterator[tuple[Key, Problem]]:
    node = text_at(root, key)
    if node is None:
        return
    fault = _path_fault(node.value, most) or (in_options and _options_fault(node.value))
    if fault:
        what, hint = fault
        text = f"{label(key)}: {shown(node.value)} {what}"
        yield key, node.place.problem(text, hint)


def _path_fault(path: str, most: int) -> tuple[str, str] | None:
    """What is wrong with PATH as a path, and a hint."""
    if not path.startswith("/"):
        return "is not absolute", "write the whole path, from / on"
    if "\0" in path:
        return "holds a NUL byte", "take it out; no path can hold one"
    normal = re.sub("/{2,}", "/", os.path.normpath(path))
    if path != normal:
        return "is not normalised", f"write {shown(normal)}" + (
            ", if no directory on the way is a symlink" if "/../" in f"{path}/" else ""
        )
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError:
        return "can't be written in this locale", "run with a UTF-8 locale"
    if len(raw) > most:
        return f"is {len(raw)} bytes long", f"at most {most} are taken"
    if any(len(part) > NAME_MAX for part in raw.split(b"/")):
        return "has a component that is too long", f"at most {NAME_MAX} bytes are taken"
    return None


def _options_fault(path: str) -> tuple[str, str] | None:
    """What keeps PATH from standing in mount options as it is, and a hint."""
    if path == "/":
        return "is the root directory", "name a path below it, such as /run/ctrdl"
    for character in path:
        if character in ":,\\":
            return f"holds {shown(character)}", "mount options give that a meaning: leave it out"
        if character.isspace() or not character.isprintable():
            return f"holds {shown(character)}", "take white space and control characters out"
    return None


def place_problems(root: Node, spoken: set[Key]) -> Iterator[tuple[Key, Problem]]:
    """Paths that get into each other's way: two at one place, links that lead into themselves.

    Looks at those only whose own text was not SPOKEN about.
    """
    links = sound(root, spoken)
    paths = {name: link.value["path"].value for name, link in links.items()}
    owners = {path: name for name, path in paths.items()}
    targets = {paths[name]: link.value["target"].value for name, link in links.items()}
    real = functools.cache(os.path.realpath)
    yield from _shared(root, links, spoken, lambda path: _place(path, targets, real))
    yield from _in_farm(root, paths)
    for name, path in paths.items():
        key = ("links", name, "target")
        fault = _loop_fault(path, targets, owners) or _real_loop_fault(path, targets, real)
        if fault:
            yield key, find(root, key).place.problem(f"{label(key)}: {fault[0]}", fault[1])


def sound(root: Node, spoken: set[Key]) -> dict[str, Node]:
    """The links whose path and target are there and right by themselves."""

    def right(name: str, key: str) -> bool:
        whole: Key = ("links", name, key)
        return whole not in spoken and text_at(root, whole) is not None

    links = mapping(root.value.get("links"))
    return {
        name: link for name, link in links.items() if right(name, "path") and right(name, "target")
    }


def _place(path: str, targets: dict[str, str], real: Callable[[str], str]) -> str:
    """Where PATH itself lies, by the configured links and by the other symlinks on disk."""
    directory, _ = _follow(os.path.dirname(path), targets)
    return os.path.join(real(directory or os.path.dirname(path)), os.path.basename(path))


def _shared(
    root: Node, links: dict[str, Node], spoken: set[Key], lies: Callable[[str], str]
) -> Iterator[tuple[Key, Problem]]:
    keys: list[Key] = [("links", name, "path") for name in links]
    keys += [("farm", "path"), ("control-socket",), ("metrics-file",)]
    first: dict[str, Key] = {}
    for key in keys:
        node = text_at(root, key)
        if node is None or key in spoken:
            continue
        other = first.setdefault(lies(node.value), key)
        if other != key:
            theirs = find(root, other)
            place = theirs.place
            where = f"{printable(place.file)}:{place.line}"
            what = f"{label(key)} and {label(other)} are both {shown(node.value)}"
            if theirs.value != node.value:
                what = (
                    f"{label(key)}: {shown(node.value)} is, through a symlink, {label(other)}: "
                    f"{shown(theirs.value)}"
                )
            yield key, node.place.problem(what, f"give one another path; the other is at {where}")


def _in_farm(root: Node, paths: dict[str, str]) -> Iterator[tuple[Key, Problem]]:
    farm = text_at(root, ("farm", "path"))
    for name, path in paths.items():
        if farm is not None and path.startswith(farm.value + "/"):
            key = ("links", name, "path")
            what = f"{label(key)}: {shown(path)} lies in the farm"
            yield key, find(root, key).place.problem(what, "its names are the farm's: move it out")


def _loop_fault(
    path: str, targets: dict[str, str], owners: dict[str, str]
) -> tuple[str, str] | None:
    """Why the link at PATH would lead into itself, and a hint; None if it doesn't."""
    target = targets[path]
    if under(target, path):
        return f"the target {shown(target)} leads through the link itself", "point it elsewhere"
    end, passed = _follow(target, targets)
    if end is None:
        chain = ", ".join(owners[one] for one in dict.fromkeys([path, *passed]))
        return f"the links {chain} lead in a circle", "let one of them point at a real directory"
    here, _ = _follow(os.path.dirname(path), targets)
    if here is not None and under(f"{here}/{os.path.basename(path)}", end):
        return (
            f"the link {shown(path)} lies inside its own target {shown(end)}",
            "move the link out of it: whoever walks the target would walk in a circle",
        )
    return None


def _real_loop_fault(
    path: str, targets: dict[str, str], real: Callable[[str], str]
) -> tuple[str, str] | None:
    """As _loop_fault(), by the symlinks that lie on disk, for what exists there."""
    end, _ = _follow(targets[path], targets)
    if end is None:
        return None
    here, there = _place(path, targets, real), real(end)
    if under(there, here):
        what = f"the target {shown(end)} leads, through a symlink, through the link itself"
        return what, "point it elsewhere"
    if under(here, there):
        return (
            f"the link {shown(path)} lies, through a symlink, inside its own target {shown(end)}",
            "move the link out of it: whoever walks the target would walk in a circle",
        )
    return None


def under(path: str, directory: str) -> bool:
    """Whether PATH is DIRECTORY or lies below it, by whole components."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _follow(path: str, targets: dict[str, str]) -> tuple[str | None, list[str]]:
    """PATH with the configured links followed, as the kernel would, and the links passed.

    None for a way that passes more of them than the kernel takes: a circle.
    """
    passed: list[str] = []
    while len(passed) <= MAX_SYMLINKS:
        at = path.find("/", 1)
        while at != -1 and path[:at] not in targets:
            at = path.find("/", at + 1)
        head = path if at == -1 else path[:at]
        if head not in targets:
            return path, passed
        passed.append(head)
        rest = "" if at == -1 else path[at:]
        path = targets[head] + rest
    return None, passed


def parent_problems(root: Node, spoken: set[Key]) -> Iterator[tuple[Key, Problem]]:
    """Links, and what else the daemon writes, below a directory that others own or may write, as
    on disk now."""
    keys: list[Key] = [
        ("links", name, "path")
        for name, link in sound(root, spoken).items()
        if "allow-unsafe-parent" not in link.value
        or link.value["allow-unsafe-parent"].value is False
    ]
    others: list[Key] = [("farm", "path"), ("control-socket",), ("metrics-file",)]
    keys += [key for key in others if key not in spoken and text_at(root, key)]
    reasons: dict[str, str | None] = {}
    for key in keys:
        node = find(root, key)
        parent = os.path.dirname(node.value)
        if parent not in reasons:
            reasons[parent] = None
            with suppress(OSError):  # what can't be looked at now is looked at before each repair
                reasons[parent] = unsafe_ancestor(node.value)
        if reason := reasons[parent]:
            hint = "move it below a directory of root's"
            if key[0] == "links":
                hint += ", or set allow-unsafe-parent: true"
            yield key, node.place.problem(f"{label(key)}: {printable(reason)}", hint)
