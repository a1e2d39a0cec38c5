"""One path under a prefix, and its other name: the table behind plan() and expand().

A prefix is compared as text, by whole components, in the one canonical spelling that an option's
value gives it. That is enough: a symlink leads to its target before the rest of the path is
walked, so ``SHORT/rest`` and ``TARGET/rest`` are one directory whatever ``rest`` holds, ``..``
and ``//`` included. ``SHORT`` alone is followed as well, but for fs.protected_symlinks, which
refuses another user's link as a *last* component in a sticky world-writable directory.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise, repeat
from typing import NamedTuple

from ovl_linkd.overlay.options import LIST, RAW, layers_and_colons


class Prefix(NamedTuple):
    """A link as the planner sees it: SHORT is a symlink to TARGET, both absolute paths."""

    name: str
    target: bytes
    short: bytes


class Pair(NamedTuple):
    """A prefix as one kind of value spells it: ``old`` becomes ``new``."""

    old: bytes
    new: bytes
    name: str

    @property
    def saving(self) -> int:
        """Bytes that each use of this pair takes away."""
        return len(self.old) - len(self.new)


class Table(NamedTuple):
    """The pairs of one kind of value.

    ``forth``: those that save something, the one that saves most first. ``back``: the way back,
    the longest short name first. ``independent``: no short name lies under another one or under
    a target, so that pairs can be applied one after the other to a whole list.
    """

    forth: tuple[Pair, ...]
    back: tuple[Pair, ...]
    independent: bool


_SPECIAL_IN_LIST = re.compile(rb"[\\,:]")
_SPECIAL_IN_PATH = re.compile(rb"[\\,]")
_NO_BARE_COMMA = re.compile(rb"(?:[^\\,]+|\\.)*", re.DOTALL)


def table(prefixes: Sequence[Prefix], kind: int) -> Table:
    """Return the pairs for values of KIND; a prefix that KIND can't spell is left out."""
    pairs = []
    for prefix in prefixes:
        old, new = spell(prefix.target, kind), spell(prefix.short, kind)
        if old and new:
            pairs.append(Pair(old, new, prefix.name))
    # Both sorts are stable: among equals the first of the caller's order is taken.
    forth = tuple(sorted((p for p in pairs if p.saving > 0), key=lambda p: -p.saving))
    back = tuple(sorted((Pair(new, old, n) for old, new, n in pairs), key=lambda p: -len(p.old)))
    return Table(forth, back, _independent(forth, back))


def spell(path: bytes, kind: int) -> bytes | None:
    """Return absolute PATH as a value of KIND spells it, without slashes at its end.

    None where PATH is no directory below the root or no value of KIND can hold it.
    """
    path = path.rstrip(b"/")
    if not path.startswith(b"/") or b"\0" in path:
        return None
    if kind == RAW:
        return path if _NO_BARE_COMMA.fullmatch(path) else None
    special = _SPECIAL_IN_LIST if kind == LIST else _SPECIAL_IN_PATH
    return special.sub(rb"\\\g<0>", path)


def shorten_value(value: bytes, kind: int, pairs: Table, uses: dict[str, int]) -> bytes:
    """Return VALUE by its short names; count in USES what was used for how many paths."""
    if kind == LIST:
        if pairs.independent and b"\\" not in value:
            return _shorten_list(value, pairs, uses)
        return shorten_each(value, pairs, uses)
    return _shorten_path(value, pairs, uses)


def shorten_each(value: bytes, pairs: Table, uses: dict[str, int]) -> bytes:
    """Return the list VALUE, each layer looked at by itself: slow, and right for every input."""
    tokens = layers_and_colons(value)
    tokens[::2] = [_shorten_path(layer, pairs, uses) for layer in tokens[::2]]
    return b"".join(tokens)


def expand_value(value: bytes, kind: int, pairs: Table) -> bytes:
    """Return VALUE by its long names."""
    if kind != LIST:
        return _expand_path(value, pairs)
    tokens = layers_and_colons(value)
    tokens[::2] = [_expand_path(layer, pairs) for layer in tokens[::2]]
    return b"".join(tokens)


def _independent(forth: tuple[Pair, ...], back: tuple[Pair, ...]) -> bool:
    # Sorted, what lies under a directory comes right after it.
    shorts = sorted(pair.old + b"/" for pair in back)
    if any(right.startswith(left) for left, right in pairwise(shorts)):
        return False
    for pair in forth:
        directory = pair.old + b"/"
        at = bisect_left(shorts, directory)
        if at < len(shorts) and shorts[at].startswith(directory):
            return False
    return True


def _is_under(path: bytes, directory: bytes) -> bool:
    return path.startswith(directory) and path[len(directory) :][:1] in (b"", b"/")


def _shorten_list(value: bytes, pairs: Table, uses: dict[str, int]) -> bytes:
    """Shorten a list without escapes, in which every colon stands between layers.

    Not by bytes.replace(): it prepares its search anew for each layer that it finds.
    """
    layers = value.split(b":")
    if any(pair.old in layers for pair in pairs.forth):
        return shorten_each(value, pairs, uses)
    for pair in pairs.forth:
        new = pair.new + b"/"
        rests = list(map(bytes.removeprefix, layers, repeat(pair.old + b"/")))
        # The usual case, that all lie under one prefix, shows in the length.
        every = new + (b":" + new).join(rests)
        if len(value) - len(every) == len(layers) * pair.saving:
            uses[pair.name] = uses.get(pair.name, 0) + len(layers)
            return every
        found = [len(rest) < len(layer) for rest, layer in zip(rests, layers, strict=True)]
        if any(found):
            uses[pair.name] = uses.get(pair.name, 0) + sum(found)
            zipped = zip(found, rests, layers, strict=True)
            layers = [new + rest if under else layer for under, rest, layer in zipped]
            value = b":".join(layers)
    return value


def _shorten_path(path: bytes, pairs: Table, uses: dict[str, int]) -> bytes:
    for pair in pairs.forth:
        if _is_under(path, pair.old):
            short = pair.new + path[len(pair.old) :]
            # Where links nest, another link's short name may claim the result.
            if pairs.independent or _expand_path(short, pairs) == path:
                uses[pair.name] = uses.get(pair.name, 0) + 1
                return short
    return path


def _expand_path(path: bytes, pairs: Table) -> bytes:
    for pair in pairs.back:
        if _is_under(path, pair.old):
            return pair.new + path[len(pair.old) :]
    return path
