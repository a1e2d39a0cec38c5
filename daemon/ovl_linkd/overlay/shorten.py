"""Whether options fit, how they are shortened, and why not: plan(), the heart of the product.

Pure: nothing here looks at a disk, a clock or a kernel.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ovl_linkd.overlay import line, refusals
from ovl_linkd.overlay.limits import Limits, capacity
from ovl_linkd.overlay.options import LIST, LOWER, SPELLING, Options, layers_of, parse
from ovl_linkd.overlay.prefixes import (
    Prefix,
    Tables,
    expand_value,
    shorten_path,
    shorten_value,
    spell,
    unescape,
)

__all__ = [
    "Plan",
    "Prefix",
    "Tables",
    "capacity",
    "expand",
    "layers_to_lease",
    "plan",
    "shortened",
]

ALWAYS = "always"
NEEDED = "needed"

# The digits of an entry of a farm that has been in use for a while: 238,328 ids.
_FARM_ID = 3


class Plan(NamedTuple):
    """What was decided about the options of one mount. Sizes are bytes.

    ``strategy``: ``plain``, handed on as given; ``link``, with short names in it; or ``farm``,
    where some of them are of single layers.
    ``options``: the text for the kernel; **empty where it can't be made to fit**, so that nobody
    passes on what would be cut. ``before``, ``after``: its size as given and as shortened;
    ``limit``: what ``limit_of`` takes. ``layers``: lower layers. ``links``: names of the links
    used, those of a farm's prefixes among them. ``reason`` and ``remedy`` are sentences for a
    person, None where it fits.
    """

    strategy: str
    options: bytes
    before: int
    after: int
    limit: int
    limit_of: str
    layers: int
    fits: bool
    links: tuple[str, ...] = ()
    reason: str | None = None
    remedy: str | None = None


def plan(
    options: Options | bytes,
    prefixes: Sequence[Prefix] | Tables,
    limits: Limits,
    when: str = ALWAYS,
    *,
    farm: Sequence[Prefix] = (),
    limit: int | None = None,
    limit_of: str = "mount(2)",
) -> Plan:
    """Decide how OPTIONS are handed on, through PREFIXES where that helps.

    ``when``: ``always`` shortens whatever it can, ``needed`` only what is too long as it is.
    ``farm``: a prefix for each layer that was leased, which lower layers go by where PREFIXES do
    not suffice: a name that many mounts share says more to who reads it, and outlives a farm's.
    ``limit`` bytes of LIMIT_OF stand in for ``limits.mount``. Who plans many mounts with the same
    prefixes gives them as Tables. Total for options that parse; raises Malformed for bytes that
    don't, ValueError for another ``when``.
    """
    if when not in (ALWAYS, NEEDED):
        raise ValueError(f"when is {when!r}, not {ALWAYS!r} or {NEEDED!r}")
    given = parse(options) if isinstance(options, bytes) else options
    text = given.format()
    before = len(text)
    ceiling = limits.mount if limit is None else limit
    if given.layers > limits.layers:
        result = Plan("plain", text, before, before, ceiling, limit_of, given.layers, True)
        return _refused(result, refusals.of_layers(given.layers, limits.layers))
    uses: dict[str, int] = {}
    short = given
    tables = _tables(prefixes)
    if when == ALWAYS or not _taken(text, ceiling, limits):
        short = _shortened(given, tables, uses)
        text = short.format()
        if farm and not _taken(text, ceiling, limits):
            uses = {}
            short = _shortened(given, tables, uses, Tables([*tables.prefixes, *farm]))
            text = short.format()
    strategy, links, after = _strategy(uses, farm), tuple(uses), len(text)
    result = Plan(strategy, text, before, after, ceiling, limit_of, given.layers, True, links)
    if after > ceiling:
        prefixes = [*tables.prefixes, *farm]
        return _refused(result, refusals.of_size(short, ceiling, limit_of, prefixes, uses, farm))
    if line.of_text(text, limits.mountinfo) > limits.mountinfo:
        result = result._replace(limit=limits.mountinfo, limit_of="mountinfo")
        return _refused(result, refusals.of_line(after, limits.mountinfo))
    return result


def layers_to_lease(
    options: Options | bytes, prefixes: Sequence[Prefix] | Tables, farm: bytes = b"/run/ctrdf"
) -> list[bytes]:
    """Return the layers for which names in the directory FARM would be shorter than by PREFIXES.

    Absolute paths without escapes, each once, in the order of OPTIONS. Asked for where plan()
    found that PREFIXES don't suffice; with what is leased for them as its ``farm``, it is called
    again. Raises Malformed.
    """
    given = parse(options) if isinstance(options, bytes) else options
    tables = _tables(prefixes)
    size = len(farm) + 1 + _FARM_ID
    found: dict[bytes, None] = {}
    for name, value in given.items():
        if name not in LOWER or not value:
            continue
        kind = SPELLING[name]
        pairs = tables.of(kind)
        for layer in layers_of(value) if kind == LIST else [value]:
            path = (unescape(layer) if kind == LIST else layer).rstrip(b"/")
            # A prefix has one spelling, and no other is found by it.
            if len(layer) <= size or layer.rstrip(b"/") != spell(path, kind):
                continue
            if len(shorten_path(layer, pairs, {})) > size:
                found[path] = None
    return list(found)


def shortened(
    options: Options,
    prefixes: Sequence[Prefix] | Tables,
    for_layers: Tables | None = None,
) -> Options:
    """Return OPTIONS with every path under a prefix by its short name, whatever its size.

    ``for_layers``, if given, are those by which lower layers go instead.
    """
    return _shortened(options, _tables(prefixes), {}, for_layers)


def expand(options: bytes, prefixes: Sequence[Prefix] | Tables) -> bytes:
    """Return OPTIONS by the long names: what plan() shortened is again what it was.

    The exact inverse for options that named no short path before. The result is for reading and
    may be longer than any kernel takes. Raises Malformed.
    """
    tables = _tables(prefixes)
    parts = []
    for part in parse(options).parts:
        name, equals, value = part.partition(b"=")
        kind = SPELLING.get(name)
        if kind is not None and equals:
            part = b"%b=%b" % (name, expand_value(value, kind, tables.of(kind)))
        parts.append(part)
    return b",".join(parts)


def _tables(prefixes: Sequence[Prefix] | Tables) -> Tables:
    return prefixes if isinstance(prefixes, Tables) else Tables(prefixes)


def _shortened(
    options: Options, tables: Tables, uses: dict[str, int], for_layers: Tables | None = None
) -> Options:
    parts = []
    for part in options.parts:
        name, equals, value = part.partition(b"=")
        kind = SPELLING.get(name)
        if kind is not None and equals:
            pairs = (for_layers if for_layers and name in LOWER else tables).of(kind)
            if pairs.forth:
                short = shorten_value(value, kind, pairs, uses, options.listed(part))
                part = b"%b=%b" % (name, short)
        parts.append(part)
    return options._replace(parts=tuple(parts))


def _taken(text: bytes, ceiling: int, limits: Limits) -> bool:
    return len(text) <= ceiling and line.of_text(text, limits.mountinfo) <= limits.mountinfo


def _strategy(uses: dict[str, int], farm: Sequence[Prefix]) -> str:
    if any(prefix.name in uses for prefix in farm):
        return "farm"
    return "link" if uses else "plain"


def _refused(result: Plan, why: refusals.Refusal) -> Plan:
    return result._replace(options=b"", fits=False, reason=why.reason, remedy=why.remedy)
