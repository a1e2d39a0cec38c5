"""Whether options fit where mount(8) is who hands them to the kernel.

From util-linux 2.39 on mount(8) hands each value to fsconfig(2), which takes 255 bytes; before,
all of them to mount(2), one page. With our mount.overlay installed it hands them on to that.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ovl_linkd.overlay import shorten
from ovl_linkd.overlay.limits import Limits
from ovl_linkd.overlay.options import MAX_TEXT, Malformed, Options, parse
from ovl_linkd.overlay.shorten import Plan, Prefix, Tables

#: how mount(8) hands options on: all at once by mount(2), each value by itself, to mount.overlay
MOUNT2 = "mount(2)"
BY_VALUE = "fsconfig(2)"
HELPER = "mount.overlay"

#: bytes that one argument of a program may hold with `-o` and what mount(8) puts before it
MOST_ARGUMENT = 131_060
#: what has a mount(8) that hands values over one by one call mount(2) again
FORCE = b"LIBMOUNT_FORCE_MOUNT2=always"


class Means(NamedTuple):
    """What options are shortened by, and for whom.

    ``prefixes``, ``limits``, ``when``, ``farm``: as for shorten.plan(); for a text of many mounts,
    prefixes as Tables. ``way``: how mount(8) hands options on, where it is who reads them.
    """

    prefixes: Sequence[Prefix] | Tables
    limits: Limits
    when: str = shorten.ALWAYS
    farm: Sequence[Prefix] = ()
    way: str = MOUNT2

    def plan(
        self, options: Options | bytes, limit: int | None = None, limit_of: str = "mount(2)"
    ) -> Plan:
        """Decide about OPTIONS, as shorten.plan() does. Raises Malformed."""
        return shorten.plan(
            options,
            self.prefixes,
            self.limits,
            self.when,
            farm=self.farm,
            limit=limit,
            limit_of=limit_of,
        )


class Judged(NamedTuple):
    """The plan, and whether mount(8) must be forced to mount(2) for it (FORCE)."""

    plan: Plan
    forced: bool


def judge(options: bytes, means: Means) -> Judged:
    """Decide how OPTIONS are handed on the way of this mount(8). Raises Malformed."""
    if options.count(b'"') % 2:
        # ul_optstr_next() in lib/strutils.c of util-linux: an option that can't be read ends them.
        raise Malformed(
            "a double quote without a second, from whose option on mount(8) drops them all",
            "name that directory by a path without one, such as a symlink",
        )
    if means.way == HELPER:
        return Judged(means.plan(options, MOST_ARGUMENT, HELPER), False)
    if means.way == MOUNT2:
        return Judged(means.plan(options), False)
    most = means.limits.fsconfig
    widest = _widest(parse(options))
    needed = means.when == shorten.ALWAYS or widest > most
    always = means._replace(when=shorten.ALWAYS)
    by_links = always._replace(prefixes=means.prefixes if needed else (), farm=())
    # mountinfo still ends what any number of short values may add up to.
    whole = by_links.plan(options, MAX_TEXT, BY_VALUE)
    if not whole.fits:
        return Judged(whole, False)
    after = _widest(parse(whole.options))
    if after <= most:
        return Judged(whole._replace(before=widest, after=after, limit=most), False)
    by_mount2 = always.plan(options)
    return Judged(by_mount2, by_mount2.fits)


def without_force(judged: Judged, limits: Limits) -> Plan:
    """Return the plan where nothing can force mount(8) to mount(2): what needs that is refused."""
    plan = judged.plan
    if not judged.forced:
        return plan
    widest = _widest(parse(plan.options))
    return plan._replace(
        options=b"",
        fits=False,
        after=widest,
        limit=limits.fsconfig,
        limit_of=BY_VALUE,
        reason=f"{widest:,} bytes in one option, of which this machine's mount(8) can hand over "
        f"{limits.fsconfig}",
        remedy="install mount.overlay, or write a .mount unit: rewrite --as unit has it mount "
        "by mount(2)",
    )


def _widest(options: Options) -> int:
    """Return the size of the longest value; mount(8) hands each over without its name."""
    return max((len(value) for _, value in options.items() if value), default=0)
