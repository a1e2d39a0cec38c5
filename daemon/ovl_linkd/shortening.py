"""Texts rewritten by the links that are kept, for commands that do so.

Quick, and of the standard library only.
"""

import os
from collections.abc import Iterable

from ovl_linkd.errors import UserError
from ovl_linkd.formats import mount_program
from ovl_linkd.formats.judging import MOUNT2
from ovl_linkd.formats.spelling import Rewritten
from ovl_linkd.formats.table import Format
from ovl_linkd.links.link import Link, observe
from ovl_linkd.overlay import limits
from ovl_linkd.overlay.options import Malformed
from ovl_linkd.overlay.shorten import Plan, Prefix

#: exit code for what is malformed
MALFORMED = 2


def prefixes(links: Iterable[Link]) -> list[Prefix]:
    """Return LINKS as the planner sees them."""
    return [Prefix(x.name, os.fsencode(x.target), os.fsencode(x.path)) for x in links]


def rewritten(text: bytes, form: Format, when: str, links: Iterable[Link]) -> Rewritten:
    """Shorten TEXT, in the format FORM, by LINKS.

    Raises UserError where it is malformed (exit code 2), can't be made to fit, or where a link that
    it needs doesn't lead to its target on disk at this moment.
    """
    way = mount_program.way() if form.by_mount8 else MOUNT2
    links = list(links)
    try:
        made = form.module.rewrite(text, prefixes(links), limits.of_this_kernel(), when, way=way)
    except Malformed as error:
        raise UserError(error.what, error.hint, MALFORMED) from None
    for plan in made.plans:
        if not plan.fits:
            raise UserError(plan.reason or "it can't be made to fit", plan.remedy or "")
    _refuse_unless_well(made.plans, links)
    return made


def expanded(text: bytes, form: Format, links: Iterable[Link]) -> bytes:
    """Return TEXT, in the format FORM, by the long names. Raises UserError, exit code 2."""
    try:
        return form.module.expand(text, prefixes(links))
    except Malformed as error:
        raise UserError(error.what, error.hint, MALFORMED) from None


def _refuse_unless_well(plans: Iterable[Plan], links: Iterable[Link]) -> None:
    used = {name for plan in plans for name in plan.links}
    for link in links:
        if link.name in used:
            seen = observe(link)
            if seen.state != "ok":
                why = f": {seen.reason}" if seen.reason else ""
                raise UserError(f"link {link.name} is {seen.state}{why}", "ovl-linkd status")
