"""What is to become of one overlay mount whose options don't fit: pure but for what it is given."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from ovl_linkd.errors import UserError
from ovl_linkd.overlay.limits import Limits
from ovl_linkd.overlay.options import LIST, SPELLING, Malformed, Options, layers_and_colons, parse
from ovl_linkd.overlay.prefixes import Prefix, spell
from ovl_linkd.overlay.shorten import NEEDED, Plan, layers_to_lease, plan


class Sight(Protocol):
    """What is asked of a caller's view of its file system."""

    def same(self, short: bytes, target: bytes) -> bool:
        """Whether SHORT leads there to the same directory as TARGET, both absolute paths."""

    def working_directory(self) -> bytes | None:
        """Its working directory as an absolute path there; None where it has none."""


class Names(NamedTuple):
    """The short names there are: ``links``, and how to ``lease`` one each for single layers.

    ``lease`` is None without a farm, whose directory is ``farm``; it may raise UserError.
    ``lasting``: nobody can remove a name of the farm, a link is at the mercy of every cleaner.
    """

    links: Sequence[Prefix]
    farm: bytes = b""
    lease: Callable[[Sequence[bytes]], Sequence[Prefix]] | None = None
    lasting: bool = False


class Decision(NamedTuple):
    """``options``: what to write over the caller's, empty where the call must fail.

    ``how``: names of the links, or that it was the farm. ``reason`` and ``remedy`` are sentences
    for a person, where it must fail; ``elsewhere``: names that were of no use to this caller.
    """

    options: bytes
    how: str = ""
    reason: str = ""
    remedy: str = ""
    elsewhere: tuple[str, ...] = ()


def decide(text: bytes, sight: Sight, names: Names, limits: Limits) -> Decision:
    """Decide about TEXT, the options of a caller that sees SIGHT; total."""
    try:
        given = parse(text)
    except Malformed as malformed:
        return Decision(b"", "", malformed.what, malformed.hint)
    attempt = _Attempt(sight, names, limits)
    result = attempt.plan(given)
    if not result.fits:
        absolute = _absolute(given, sight)
        if absolute != given:
            other = attempt.plan(absolute)
            result = other if other.fits else result
    if result.fits:
        return Decision(result.options, result.strategy + _list(result.links))
    reason = result.reason or "it can't be made to fit"
    for name in attempt.elsewhere:
        reason += f"; {name} leads elsewhere for this caller, or nowhere"
    reason += attempt.trouble
    return Decision(b"", "", reason, result.remedy or "", tuple(attempt.elsewhere))


def _list(names: Sequence[str]) -> str:
    return f" {', '.join(names[:3])}{' …' if len(names) > 3 else ''}" if names else ""


class _Attempt:
    """Planning with the names that count for one caller; those that don't are ``elsewhere``."""

    def __init__(self, sight: Sight, names: Names, limits: Limits) -> None:
        self._sight = sight
        self._names = names
        self._limits = limits
        self._links = list(names.links)
        self.elsewhere: list[str] = []
        self.trouble = ""

    def plan(self, given: Options) -> Plan:
        if self._names.lasting:
            # Between this look and the kernel's no link can be relied on to be there.
            lasting = self._by_farm(given, ())
            if lasting and lasting.fits:
                return lasting
        result = self._by_links(given)
        return result if result.fits else self._by_farm(given, self._links) or result

    def _by_farm(self, given: Options, links: Sequence[Prefix]) -> Plan | None:
        """The plan by LINKS and the farm; None where there is none to be had."""
        if self._names.lease is None or given.layers > self._limits.layers:
            return None
        try:
            leased = self._names.lease(layers_to_lease(given, links, self._names.farm))
        except UserError as error:
            self.trouble = f"; {error.what}"
            return None
        farm = [prefix for prefix in leased if self._sight.same(prefix.short, prefix.target)]
        if len(farm) < len(leased):
            self.elsewhere.append("the farm")
        return plan(given, links, self._limits, NEEDED, farm=farm)

    def _by_links(self, given: Options) -> Plan:
        while True:
            result = plan(given, self._links, self._limits, NEEDED)
            wrong = [
                link
                for link in self._links
                if link.name in result.links and not self._sight.same(link.short, link.target)
            ]
            if not wrong:
                return result
            self.elsewhere += [link.name for link in wrong]
            self._links = [link for link in self._links if link not in wrong]


def _absolute(given: Options, sight: Sight) -> Options:
    """GIVEN with each relative path as an absolute one: links are found by those alone."""
    cwd = sight.working_directory()
    return given._replace(parts=tuple(_absolute_part(part, cwd) for part in given.parts))


def _absolute_part(part: bytes, cwd: bytes | None) -> bytes:
    name, equals, value = part.partition(b"=")
    kind = SPELLING.get(name)
    if kind is None or not cwd or not value:
        return part
    here = b"" if cwd == b"/" else spell(cwd, kind)
    if here is None:
        return part
    paths = layers_and_colons(value) if kind == LIST else [value]
    absolute = [path if path[:1] in b"/:" else b"%b/%b" % (here, path) for path in paths]
    return b"%b%b%b" % (name, equals, b"".join(absolute))
