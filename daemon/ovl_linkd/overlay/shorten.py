"""Whether options fit, how they are shortened, and why not: plan(), the heart of the product.

Pure: nothing here looks at a disk, a clock or a kernel.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from ovl_linkd.overlay.limits import Limits, capacity
from ovl_linkd.overlay.options import LIST, SPELLING, Options, layers_and_colons, layers_of, parse
from ovl_linkd.overlay.prefixes import Prefix, Tables, directories, expand_value, shorten_value

__all__ = ["Plan", "Prefix", "Tables", "capacity", "expand", "plan", "shortened"]

ALWAYS = "always"
NEEDED = "needed"

# What seq_show_option() writes as four bytes in mountinfo (include/linux/seq_file.h). A comma is
# one of them only within a value, where it is escaped.
_OCTAL = (b" ", b"\t", b"\n", b"\\", b"\\,")
# Ids, mount point, type and flags of a mountinfo line stand beside the options.
_REST_OF_LINE = 600
# A link path as short as people choose them; remedies are reckoned with it.
_SHORT_LINK = b"/run/layers"


class Plan(NamedTuple):
    """What was decided about the options of one mount. Sizes are bytes.

    ``strategy``: ``plain``, handed on as given, or ``link``, with short names in it.
    ``options``: the text for the kernel; **empty where it can't be made to fit**, so that nobody
    passes on what would be cut. ``before``, ``after``: its size as given and as shortened;
    ``limit``: what ``limit_of`` takes. ``layers``: lower layers. ``links``: names of the links
    used. ``reason`` and ``remedy`` are sentences for a person, None where it fits.
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
    limit: int | None = None,
    limit_of: str = "mount(2)",
) -> Plan:
    """Decide how OPTIONS are handed on, through PREFIXES where that helps.

    ``when``: ``always`` shortens whatever it can, ``needed`` only what is too long as it is.
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
        return _refuse_layers(result, limits.layers)
    uses: dict[str, int] = {}
    short = given
    tables = _tables(prefixes)
    if when == ALWAYS or before > ceiling:
        short = _shortened(given, tables, uses)
        text = short.format()
    strategy, links, after = "link" if uses else "plain", tuple(uses), len(text)
    result = Plan(strategy, text, before, after, ceiling, limit_of, given.layers, True, links)
    if after > ceiling:
        return _refuse_size(result, short, tables.prefixes, uses)
    if _line_in_mountinfo(text, limits.mountinfo) > limits.mountinfo:
        return _refuse_line(result, limits.mountinfo)
    return result


def shortened(options: Options, prefixes: Sequence[Prefix] | Tables) -> Options:
    """Return OPTIONS with every path under a prefix by its short name, whatever its size."""
    return _shortened(options, _tables(prefixes), {})


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


def _shortened(options: Options, tables: Tables, uses: dict[str, int]) -> Options:
    parts = []
    for part in options.parts:
        name, equals, value = part.partition(b"=")
        kind = SPELLING.get(name)
        if kind is not None and equals:
            pairs = tables.of(kind)
            if pairs.forth:
                part = b"%b=%b" % (name, shorten_value(value, kind, pairs, uses))
        parts.append(part)
    return Options(tuple(parts), options.layers)


def _refuse_layers(result: Plan, most: int) -> Plan:
    return result._replace(
        options=b"",
        fits=False,
        reason=f"{result.layers:,} lower layers, the kernel takes {most:,}",
        remedy="merge layers: no link changes their number",
    )


def _refuse_line(result: Plan, most: int) -> Plan:
    return result._replace(
        options=b"",
        fits=False,
        limit=most,
        limit_of="mountinfo",
        reason=f"{result.after:,} bytes of options would make a line of more than {most:,} bytes "
        "in mountinfo, at which Go programs, runc among them, stop reading it",
        remedy="mount fewer layers, or shorten their paths by a link",
    )


def _refuse_size(
    result: Plan, short: Options, prefixes: Sequence[Prefix], uses: dict[str, int]
) -> Plan:
    over = result.after - result.limit
    fitting = _layers_that_fit(short, result.limit)
    through = " even through the link" if uses else ""
    return result._replace(
        options=b"",
        fits=False,
        reason=f"{over:,} bytes too long{through}: {result.after:,} bytes, {result.limit_of} takes "
        f"{result.limit:,}; {fitting:,} of {result.layers:,} layers would fit",
        remedy=_remedy(over, fitting, short, prefixes, uses),
    )


def _layers_that_fit(options: Options, limit: int) -> int:
    """Count the leading layers that could stay if all else stays as it is."""
    lists = [at for at, part in enumerate(options.parts) if part.startswith(b"lowerdir=")]
    if not lists:
        return _adds_that_fit(options, limit)
    part = options.parts[lists[-1]]
    room = len(part) - len(options.format()) + limit
    if b"\\" not in part and b"::" not in part:
        end = part.rfind(b":", 0, max(0, room + 1))
        return part.count(b":", 0, end) + 1 if end > 0 else 0
    fitting = 0
    size = len(b"lowerdir=")
    for at, token in enumerate(layers_and_colons(part[size:])):
        size += len(token)
        if size > room:
            break
        fitting += at % 2 == 0
    return fitting


def _adds_that_fit(options: Options, limit: int) -> int:
    sizes = [len(p) + 1 for p in options.parts if p.startswith((b"lowerdir+=", b"datadir+="))]
    room = limit - len(options.format()) + sum(sizes)
    fitting = 0
    for size in sizes:
        room -= size
        if room < 0:
            break
        fitting += 1
    return fitting


def _remedy(
    over: int, fitting: int, short: Options, prefixes: Sequence[Prefix], uses: dict[str, int]
) -> str:
    """Say the least that would help: another link, a shorter one, or fewer layers."""
    if sum(uses.values()) < short.layers:
        directory, count = _uncovered(short, [p.short for p in prefixes if p.name in uses])
        if count * (len(directory) - len(_SHORT_LINK)) >= over:
            return f"a link that covers {os.fsdecode(directory)}: {count:,} paths lie under it"
    for prefix in sorted(prefixes, key=lambda p: -uses.get(p.name, 0))[:1]:
        used = uses.get(prefix.name, 0)
        room = len(prefix.short) - -(-over // used) if used else 0
        if room >= len(b"/r/c"):
            path = os.fsdecode(prefix.short)
            return f"a link path of at most {room:,} bytes in place of {path}"
    if not fitting:
        return "shorten what is not a layer: the paths in upperdir and workdir, other options"
    return f"mount at most {fitting:,} layers of this length, or merge some"


def _uncovered(options: Options, shorts: list[bytes]) -> tuple[bytes, int]:
    """Return the deepest directory above all layers that go by no link, and their number."""
    under = directories(short.rstrip(b"/") for short in shorts)
    paths: list[bytes] = []
    for name, value in options.items():
        if name in (b"lowerdir", b"lowerdir+", b"datadir+") and value:
            paths += layers_of(value) if SPELLING[name] == LIST else [value]
    paths = [path for path in paths if path.startswith(b"/") and not under.above(path)]
    if not paths:
        return b"", 0
    common = os.path.commonpath((min(paths), max(paths)))
    return common, len(paths)


def _line_in_mountinfo(text: bytes, most: int) -> int:
    if 4 * len(text) + _REST_OF_LINE <= most:
        return 0
    return len(text) + 3 * sum(text.count(each) for each in _OCTAL) + _REST_OF_LINE
