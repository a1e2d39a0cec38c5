"""The ways in which a caller that mounts by itself may try to mount, the best first: rungs().

The order prefers what leaves names in /proc/mounts that mean something to whoever reads them:

1. ``plain``: the options as they are, by mount(2), if they fit.
2. ``link``: by names that are kept for good, still one ``lowerdir=`` that every reader knows, in a
   line that is short, and on any kernel.
3. ``lowerdir+``, or ``descriptors`` where single paths are over 255 bytes: a layer a value, by
   fsconfig(2). The true names, absolute and whole, but in a spelling that not every reader knows,
   in lines of up to 65,000 bytes, and only on kernels that have it. Where line or paths are too
   long, the same with names by link.
4. ``farm``: absolute, but a name says nothing, and leads nowhere once its entry has expired.
5. ``chdir``: relative names, which mean something to nobody who doesn't know from where.

Pure: nothing here looks at a disk or a kernel. Whether the kernel takes a rung is found out by
trying (climbing.py); what it would cut, or what would make a line of mountinfo too long, is none.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ovl_linkd.overlay import line
from ovl_linkd.overlay.limits import Limits
from ovl_linkd.overlay.options import (
    LIST,
    LOWER,
    LSM,
    PATH,
    SPELLING,
    Options,
    layers_and_colons,
)
from ovl_linkd.overlay.prefixes import Prefix, Tables, directory_above, spell, unescape
from ovl_linkd.overlay.shorten import layers_to_lease, shortened


class Setting(NamedTuple):
    """One value for fsconfig(2).

    ``value``: None for an option without one. ``path``: the directory that it names, without
    escapes, or None; open, it may stand in for a value that is too long.
    """

    name: bytes
    value: bytes | None
    path: bytes | None = None


class Rung(NamedTuple):
    """One way to mount.

    Either ``options`` for mount(2), which fit, or ``settings`` for fsconfig(2). ``directory``:
    from where their relative paths lead, None for the caller's working directory. ``prefixes``:
    whether short names are in them, which may be gone the next moment.
    """

    strategy: str
    options: bytes = b""
    settings: tuple[Setting, ...] = ()
    directory: bytes | None = None
    prefixes: bool = False


def rungs(
    options: Options,
    limits: Limits,
    links: Callable[[], Sequence[Prefix]],
    lease: Callable[[list[bytes]], Sequence[Prefix]],
    beside: int = line.REST,
) -> Iterator[Rung]:
    """Yield the ways to mount OPTIONS that are within LIMITS.

    ``links`` and ``lease`` are asked when the first rung that needs them is: for the prefixes that
    are well now, and for one of the farm for each of some layers, if there is one. ``beside``:
    bytes of the line in mountinfo beside the options, from line.of_names().
    """
    ladder = _Ladder(limits, beside)
    yield from ladder.whole("plain", options)
    tables = Tables(links())
    linked = shortened(options, tables)
    if linked != options:
        yield from ladder.whole("link", linked)
    given = ladder.one_by_one(None, options)
    yield from given
    # By a link, values are short enough for any kernel that takes them, and so is the line.
    if linked != options and not any(each.strategy == "lowerdir+" for each in given):
        yield from ladder.one_by_one("link", linked)
    wanted = layers_to_lease(options, tables)
    leased = lease(wanted) if wanted else ()
    if leased:
        farmed = shortened(options, tables, Tables([*tables.prefixes, *leased]))
        yield from ladder.whole("farm", farmed)
        yield from ladder.one_by_one("farm", farmed)
    directory = common_directory(options)
    if directory is not None and (relative := _relative(options, linked, directory)):
        yield from ladder.whole("chdir", relative, directory)
        yield from ladder.one_by_one("chdir", relative, directory)


def settings(options: Options) -> tuple[Setting, ...]:
    """Return what OPTIONS say as values for fsconfig(2), each lower layer by itself."""
    items = list(options.items())
    lists = [at for at, (name, _) in enumerate(items) if name == b"lowerdir"]
    added = any(name in (b"lowerdir+", b"datadir+") for name, _ in items)
    # Beside lowerdir+ a list is refused, or undone: whether it is, is the kernel's to say.
    if added or not all(items[at][1] for at in lists):
        return settings_as_given(options)
    found: list[Setting] = []
    for at, (name, value) in enumerate(items):
        if name != b"lowerdir":
            found += [_setting(name, value)] if name else []
        elif value and at == lists[-1]:  # the last of several wins
            found += _added(value)
    return tuple(found)


def settings_as_given(options: Options) -> tuple[Setting, ...]:
    """Return what OPTIONS say as values for fsconfig(2), each of their parts one value."""
    # One without a name mount(2) passes over.
    return tuple(_setting(name, value) for name, value in options.items() if name)


def common_directory(options: Options) -> bytes | None:
    """Return the deepest directory above all lower layers; relative where they are.

    None where there is none but the root or the working directory, or where some layers are
    relative and others aren't.
    """
    layers = [each.path for each in settings(options) if each.name in LOWER and each.path]
    if len({path.startswith(b"/") for path in layers}) != 1:
        return None
    return directory_above(layers) or None


class _Ladder(NamedTuple):
    """How long everything may be."""

    limits: Limits
    beside: int

    def whole(self, strategy: str, options: Options, directory: bytes | None = None) -> list[Rung]:
        """The rung by mount(2), if there is one."""
        text, most = options.format(), self.limits.mountinfo
        if len(text) > self.limits.mount or line.of_text(text, most, self.beside) > most:
            return []
        return [Rung(strategy, text, (), directory, strategy in ("link", "farm"))]

    def one_by_one(
        self, strategy: str | None, options: Options, directory: bytes | None = None
    ) -> list[Rung]:
        """The rung by fsconfig(2), if there is one; STRATEGY None: named by what it does."""
        values = settings(options)
        shown = ((each.name, each.value or b"") for each in values)
        if line.of_values(shown, self.beside) > self.limits.mountinfo:
            return []
        long = any(each.path and self.takes_no_string(each) for each in values)
        strategy = strategy or ("descriptors" if long else "lowerdir+")
        return [Rung(strategy, b"", values, directory, strategy in ("link", "farm"))]

    def takes_no_string(self, setting: Setting) -> bool:
        """Whether SETTING is longer than one value may be."""
        return setting.value is not None and len(setting.value) > self.limits.fsconfig


def _added(value: bytes) -> list[Setting]:
    """The layers of a ``lowerdir=``, one by one: those after ``::`` hold data only."""
    name = b"lowerdir+"
    found = []
    for token in layers_and_colons(value):
        if token.startswith(b":"):
            name = b"datadir+" if token == b"::" else name
        else:
            path = unescape(token)
            found.append(Setting(name, path, path))
    return found


def _setting(name: bytes, value: bytes | None) -> Setting:
    if value is None:
        return Setting(name, None)
    if (name + b"=").startswith(LSM):
        # In mount(2)'s text they keep its commas together; here nothing is split.
        return Setting(name, value.replace(b'"', b""))
    kind = SPELLING.get(name)
    if kind is None or kind == LIST:
        return Setting(name, value)
    return Setting(name, value, unescape(value) if kind == PATH else value)


def _relative(options: Options, linked: Options, directory: bytes) -> Options | None:
    """OPTIONS as seen from DIRECTORY; what doesn't lie there, as in LINKED.

    None where such a path is relative, the upperdir's too: from there it would lead elsewhere.
    """
    parts = []
    for part, other in zip(options.parts, linked.parts, strict=True):
        name, _, value = part.partition(b"=")
        kind = SPELLING.get(name)
        if kind is None or not value:
            parts.append(other)
            continue
        tokens = layers_and_colons(value) if kind == LIST else [value]
        base = _spelt(directory, kind)
        seen = [None if base is None else _below(path, base) for path in tokens[::2]]
        if any(new is None and old[:1] != b"/" for new, old in zip(seen, tokens[::2], strict=True)):
            return None
        if seen == [None]:
            parts.append(other)
            continue
        tokens[::2] = [new or old for new, old in zip(seen, tokens[::2], strict=True)]
        parts.append(b"%b=%b" % (name, b"".join(tokens)))
    return options._replace(parts=tuple(parts))


def _spelt(directory: bytes, kind: int) -> bytes | None:
    """DIRECTORY as a value of KIND spells it, absolute or relative; None where it can't."""
    if directory.startswith(b"/"):
        return spell(directory, kind)
    spelt = spell(b"/" + directory, kind)
    return spelt and spelt[1:]


def _below(path: bytes, directory: bytes) -> bytes | None:
    """PATH as seen from DIRECTORY, both spelt alike; None if it doesn't lie there."""
    if path.rstrip(b"/") == directory:
        return b"."
    if not path.startswith(directory + b"/"):
        return None
    rest = path[len(directory) :].lstrip(b"/")
    # An escaped slash is one, too: without what stands before it, it would be the root.
    return None if rest.startswith(rb"\/") else rest
