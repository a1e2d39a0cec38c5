"""Why options can't be handed on, and the least that would help: sentences for a person."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ovl_linkd.overlay.options import (
    LIST,
    LOWER,
    SPELLING,
    Options,
    layers_and_colons,
    layers_of,
)
from ovl_linkd.overlay.prefixes import Prefix, directories, directory_above

# A link path as short as people choose them; remedies are reckoned with it.
_SHORT_LINK = b"/run/layers"
_NOT_PLAIN = re.compile(rb"//|/\.\.?(?:/|\Z)")


class Refusal(NamedTuple):
    """What stands in the way, and what would help."""

    reason: str
    remedy: str


def of_layers(layers: int, most: int) -> Refusal:
    """More than the MOST lower layers that a kernel takes."""
    reason = f"{layers:,} lower layers, the kernel takes {most:,}"
    return Refusal(reason, "merge layers: no link changes their number")


def of_line(size: int, most: int) -> Refusal:
    """SIZE bytes of options, with which a line of mountinfo would have more than MOST bytes."""
    return Refusal(
        f"{size:,} bytes of options would make a line of more than {most:,} bytes "
        "in mountinfo, at which Go programs, runc among them, stop reading it",
        "mount fewer layers, or shorten their paths by a link",
    )


def of_size(
    short: Options,
    limit: int,
    limit_of: str,
    prefixes: Sequence[Prefix],
    uses: Mapping[str, int],
    farm: Collection[Prefix] = (),
) -> Refusal:
    """Options, already SHORT, with more than the LIMIT bytes that LIMIT_OF takes.

    USES: for how many paths each of PREFIXES stands in them. FARM: those of PREFIXES that are of
    single layers.
    """
    size = len(short.format())
    over = size - limit
    fitting = _layers_that_fit(short, limit)
    farmed = [prefix for prefix in farm if prefix.name in uses]
    through = "farm" if farmed else "link"
    reason = (
        f"{over:,} bytes too long{f' even through the {through}' if uses else ''}: {size:,} bytes, "
        f"{limit_of} takes {limit:,}; {fitting:,} of {short.layers:,} layers would fit"
    )
    if farmed:
        return Refusal(reason, _shorter_farm(over, farmed, uses) or _fewer(fitting))
    return Refusal(reason, _remedy(over, fitting, short, prefixes, uses))


def _layers_that_fit(options: Options, limit: int) -> int:
    """Count the leading layers that could stay if all else stays as it is."""
    lists = [at for at, part in enumerate(options.parts) if part.startswith(b"lowerdir=")]
    if not lists:
        return _adds_that_fit(options, limit)
    part = options.parts[lists[-1]]
    room = len(part) - len(options.format()) + limit
    kept = part[: max(0, room + 1)]  # with the colon after the last that could stay
    if b"\\" not in kept and b"::" not in kept:
        end = kept.rfind(b":")
        return len(kept[:end].split(b":")) if end > 0 else 0  # in half the time of count()
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
    over: int, fitting: int, short: Options, prefixes: Sequence[Prefix], uses: Mapping[str, int]
) -> str:
    """Say the least that would help: another link, a shorter one, or fewer layers."""
    if sum(uses.values()) < short.layers:
        directory, count = _uncovered(short, [p.short for p in prefixes if p.name in uses])
        # The target of a link is plain, and compared as text.
        plain = _NOT_PLAIN.split(directory, maxsplit=1)[0]
        if count * (len(plain) - len(_SHORT_LINK)) >= over:
            return f"a link that covers {os.fsdecode(plain)}: {count:,} paths lie under it"
        if count * (len(directory) - len(_SHORT_LINK)) >= over:
            shown = os.fsdecode(directory)
            return f"write {shown} without //, /./ and /../: links cover paths as they are written"
    for prefix in sorted(prefixes, key=lambda p: -uses.get(p.name, 0))[:1]:
        used = uses.get(prefix.name, 0)
        room = len(prefix.short) - -(-over // used) if used else 0
        if room >= len(b"/r/c"):
            path = os.fsdecode(prefix.short)
            return f"a link path of at most {room:,} bytes in place of {path}"
    return _fewer(fitting)


def _shorter_farm(over: int, farmed: Sequence[Prefix], uses: Mapping[str, int]) -> str | None:
    farm = os.path.dirname(farmed[0].short)
    room = len(farm) - -(-over // sum(uses[prefix.name] for prefix in farmed))
    if room < len(b"/r/f"):
        return None
    return f"a farm path of at most {room:,} bytes in place of {os.fsdecode(farm)}"


def _fewer(fitting: int) -> str:
    if not fitting:
        return "shorten what is not a layer: the paths in upperdir and workdir, other options"
    layers = "1 layer" if fitting == 1 else f"{fitting:,} layers"
    return f"mount at most {layers} of this length, or merge some"


def _uncovered(options: Options, shorts: list[bytes]) -> tuple[bytes, int]:
    """Return the deepest directory above all layers that go by no link, and their number."""
    under = directories(short.rstrip(b"/") for short in shorts)
    paths: list[bytes] = []
    for name, value in options.items():
        if name in LOWER and value:
            paths += layers_of(value) if SPELLING[name] == LIST else [value]
    paths = [path for path in paths if path.startswith(b"/") and not under.above(path)]
    if not paths:
        return b"", 0
    return directory_above(paths), len(paths)
