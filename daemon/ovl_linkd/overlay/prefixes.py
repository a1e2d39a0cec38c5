"""One path under a prefix, and its other name: the table behind plan() and expand().

A prefix is compared as text, by whole components, in the one canonical spelling that an option's
value gives it. That is enough: a symlink leads to its target before the rest of the path is
walked, so ``SHORT/rest`` and ``TARGET/rest`` are one directory whatever ``rest`` holds, ``..``
and ``//`` included. ``SHORT`` alone is followed as well, but for fs.protected_symlinks, which
refuses another user's link as a *last* component in a sticky world-writable directory.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import repeat, takewhile
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


class Directories(NamedTuple):
    """Directories, to be found above a path in a time that their number doesn't change.

    ``ranks``: their places in the caller's order; of equal ones the first. ``shortest``,
    ``longest``: bytes.
    """

    ranks: dict[bytes, int]
    shortest: int
    longest: int

    def above(self, path: bytes) -> list[int]:
        """Return the ranks of those that PATH is or lies under, the uppermost first."""
        found = []
        if path in self.ranks:
            found.append(self.ranks[path])
        # No more than the longest is looked at, however long the path and many its slashes.
        end = path.rfind(b"/", self.shortest, self.longest + 1)
        while end >= 0:
            rank = self.ranks.get(path[:end])
            if rank is not None:
                found.append(rank)
            end = path.rfind(b"/", self.shortest, end)
        return found[::-1]


class Table(NamedTuple):
    """The pairs of one kind of value.

    ``forth``: those that save something, the one that saves most first; ``targets`` finds them.
    ``back``: the way back; ``shorts`` finds it. ``independent``: no short name lies under another
    one, or under or above a target, so that pairs can be applied one after the other to a whole
    list.
    """

    forth: tuple[Pair, ...]
    back: tuple[Pair, ...]
    targets: Directories
    shorts: Directories
    independent: bool


class Tables:
    """The table of each kind of value, made when it is first needed: for one plan or for many."""

    def __init__(self, prefixes: Sequence[Prefix]) -> None:
        self.prefixes = prefixes
        self._made: dict[int, Table] = {}
        paths = b"".join([part for prefix in prefixes for part in prefix[1:]])
        self._one_spelling = _SPECIAL_IN_LIST.search(paths) is None

    def of(self, kind: int) -> Table:
        """Return the table for values of KIND."""
        if self._one_spelling:
            kind = LIST
        made = self._made.get(kind)
        if made is None:
            made = self._made[kind] = table(self.prefixes, kind)
        return made


_SPECIAL_IN_LIST = re.compile(rb"[\\,:]")
_SPECIAL_IN_PATH = re.compile(rb"[\\,]")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
# Possessive: where it fails, all ways to part the text would be tried otherwise, 2 to its length.
_NO_BARE_COMMA = re.compile(rb"(?:[^\\,]++|\\.)*+", re.DOTALL)
# Up to so many pairs, trying each on a whole list is quicker than looking at each layer.
_FEW = 4


def table(prefixes: Sequence[Prefix], kind: int) -> Table:
    """Return the pairs for values of KIND; a prefix that KIND can't spell is left out."""
    pairs = []
    for prefix in prefixes:
        old, new = spell(prefix.target, kind), spell(prefix.short, kind)
        if old and new:
            pairs.append(Pair(old, new, prefix.name))
    # The sort is stable: among equals the first of the caller's order is taken.
    forth = tuple(sorted([p for p in pairs if p.saving > 0], key=lambda p: -p.saving))
    back = tuple([Pair(new, old, name) for old, new, name in pairs])
    targets = directories([pair.old for pair in forth])
    shorts = directories([pair.old for pair in back])
    return Table(forth, back, targets, shorts, _independent(forth, back))


def directories(paths: Iterable[bytes]) -> Directories:
    """Return PATHS, which have no slash at their end, so that they can be found above a path."""
    ranks: dict[bytes, int] = {}
    for rank, path in enumerate(paths):
        ranks.setdefault(path, rank)
    sizes = list(map(len, ranks)) or [0]
    return Directories(ranks, min(sizes), max(sizes))


def directory_above(paths: Sequence[bytes]) -> bytes:
    """Return the deepest directory above all of PATHS, at least one, all absolute or none.

    As it stands in them, that is as text; without slashes at its end, so that the root is empty.
    """
    # What the first and the last have in common all have, if they are in order by components: in
    # that of their bytes ``/a-b`` stands between ``/a`` and ``/a/b``.
    ordered = [path.replace(b"/", b"\0") for path in paths]
    ends = zip(min(ordered).split(b"\0"), max(ordered).split(b"\0"), strict=False)
    common = takewhile(lambda names: names[0] == names[1], ends)
    return b"/".join([name for name, _ in common]).rstrip(b"/")


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
    # Most paths hold nothing special, and to see that takes a fraction of what sub() does.
    return special.sub(rb"\\\g<0>", path) if special.search(path) else path


def unescape(value: bytes) -> bytes:
    """Return the path that VALUE, one layer of a list or one path, is to the kernel."""
    return _ESCAPED.sub(rb"\1", value) if b"\\" in value else value


def shorten_value(
    value: bytes,
    kind: int,
    pairs: Table,
    uses: dict[str, int],
    listed: list[bytes] | None = None,
) -> bytes:
    """Return VALUE by its short names; count in USES what was used for how many paths.

    ``listed``: the layers of a list that was split.
    """
    if kind == LIST:
        if pairs.independent and listed:
            return _shorten_list(value, listed, pairs, uses)
        return shorten_each(value, pairs, uses)
    return shorten_path(value, pairs, uses)


def shorten_each(value: bytes, pairs: Table, uses: dict[str, int]) -> bytes:
    """Return the list VALUE, each layer looked at by itself: slow, and right for every input."""
    tokens = layers_and_colons(value)
    tokens[::2] = [shorten_path(layer, pairs, uses) for layer in tokens[::2]]
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
    shorts = sorted([pair.old + b"/" for pair in back])
    if any(map(bytes.startswith, shorts[1:], shorts)):
        return False
    for pair in forth:
        directory = pair.old + b"/"
        at = bisect_left(shorts, directory)
        if at < len(shorts) and shorts[at].startswith(directory):
            return False
        # As they don't nest, only the one right before it may be above it.
        if at and directory.startswith(shorts[at - 1]):
            return False
    return True


def _shorten_list(value: bytes, layers: list[bytes], pairs: Table, uses: dict[str, int]) -> bytes:
    """Shorten VALUE, a list of LAYERS without escapes.

    Not by bytes.replace(): it prepares its search anew for each layer that it finds.
    """
    if every := _all_by_one(value, layers, pairs, uses):
        return every
    forth = pairs.forth if len(pairs.forth) <= _FEW else _above_any(layers, pairs)
    if len(forth) > _FEW or any(pair.old in layers for pair in forth):
        return shorten_each(value, pairs, uses)
    for pair in forth:
        new = pair.new + b"/"
        rests = list(map(bytes.removeprefix, layers, repeat(pair.old + b"/")))
        found = [len(rest) < len(layer) for rest, layer in zip(rests, layers, strict=True)]
        if any(found):
            uses[pair.name] = uses.get(pair.name, 0) + sum(found)
            zipped = zip(found, rests, layers, strict=True)
            layers = [new + rest if under else layer for under, rest, layer in zipped]
    return b":".join(layers)


def _all_by_one(
    value: bytes, layers: list[bytes], pairs: Table, uses: dict[str, int]
) -> bytes | None:
    """The usual case, that all LAYERS lie under one prefix; None where they don't."""
    ranks = pairs.targets.above(layers[0])
    if not ranks:
        return None
    best = min(ranks)
    pair = pairs.forth[best]
    # One that saves more may lead deeper, to some of the others.
    if best > _FEW or any(each.old.startswith(pair.old) for each in pairs.forth[:best]):
        return None
    new = pair.new + b"/"
    rests = map(bytes.removeprefix, layers, repeat(pair.old + b"/"))
    every = new + (b":" + new).join(rests)
    # Whether it was the case shows in the length.
    if len(value) - len(every) != len(layers) * pair.saving:
        return None
    uses[pair.name] = uses.get(pair.name, 0) + len(layers)
    return every


def _above_any(layers: list[bytes], pairs: Table) -> tuple[Pair, ...]:
    """Return the pairs that any of LAYERS could go by, in the order of ``pairs.forth``."""
    # Layers that begin alike for as long as the longest target lie under the same ones.
    size = pairs.targets.longest + 1
    beginnings = {layer[:size] for layer in layers}
    ranks = {rank for each in beginnings for rank in pairs.targets.above(each)}
    return tuple(pairs.forth[rank] for rank in sorted(ranks))


def shorten_path(path: bytes, pairs: Table, uses: dict[str, int]) -> bytes:
    """Return PATH, one layer of a list or one path as its kind of value spells it, by its short
    name; count in USES what was used."""
    for rank in sorted(pairs.targets.above(path)):
        pair = pairs.forth[rank]
        short = pair.new + path[len(pair.old) :]
        # Where links nest, another link's short name may claim the result.
        if pairs.independent or _expand_path(short, pairs) == path:
            uses[pair.name] = uses.get(pair.name, 0) + 1
            return short
    return path


def _expand_path(path: bytes, pairs: Table) -> bytes:
    ranks = pairs.shorts.above(path)
    if not ranks:
        return path
    pair = pairs.back[ranks[-1]]
    return pair.new + path[len(pair.old) :]
