"""Texts rewritten by the links that are kept, for commands that do so.

Quick, and of the standard library only.
"""

import os
from collections.abc import Iterable

from ovl_linkd.errors import UserError
from ovl_linkd.formats import mount8
from ovl_linkd.formats.judging import MOUNT2, Means
from ovl_linkd.formats.spelling import Rewritten
from ovl_linkd.formats.table import Format
from ovl_linkd.links.link import Link, observe
from ovl_linkd.overlay import limits
from ovl_linkd.overlay.options import Malformed
from ovl_linkd.overlay.shorten import Plan, Prefix, Tables, layers_to_lease
from ovl_linkd.published import Published

#: exit code for what is malformed
MALFORMED = 2


def prefixes(links: Iterable[Link]) -> list[Prefix]:
    """Return LINKS as the planner sees them."""
    return [Prefix(x.name, os.fsencode(x.target), os.fsencode(x.path)) for x in links]


def rewritten(
    text: bytes, form: Format, when: str, links: Iterable[Link], farm: Published | None = None
) -> Rewritten:
    """Shorten TEXT, in the format FORM, by LINKS; where these don't suffice by FARM's farm, too.

    Nothing durable goes by the farm. Raises UserError where TEXT is malformed (exit code 2), can't
    be made to fit, or where a link that it needs doesn't lead to its target on disk at this moment.
    """
    way = mount8.way() if form.by_mount8 else MOUNT2
    links = list(links)
    try:
        known, most = prefixes(links), limits.of_this_kernel()
        means = Means(Tables(known), most, when, way=way)
        made = form.module.rewrite(text, means)
        leased, obstacle = _leased(text, form, made, known, farm)
        if leased:
            made = form.module.rewrite(text, means._replace(farm=leased))
    except Malformed as error:
        raise UserError(error.what, error.hint, MALFORMED) from None
    for plan in made.plans:
        if not plan.fits:
            remedy = "; ".join(filter(None, (plan.remedy, obstacle)))
            raise UserError(plan.reason or "it can't be made to fit", remedy)
    _refuse_unless_well(made.plans, links)
    return made


def _leased(
    text: bytes, form: Format, made: Rewritten, known: list[Prefix], farm: Published | None
) -> tuple[list[Prefix], str | None]:
    """Lease names for the layers of those mounts that MADE can't make fit; or say why not."""
    most = limits.of_this_kernel().layers
    unfit = [x for x, plan in enumerate(made.plans) if not plan.fits and plan.layers <= most]
    if not unfit or form.durable or farm is None or farm.farm is None:
        return [], None
    from ovl_linkd import leasing

    options = list(form.module.mounts(text))
    directory = os.fsencode(farm.farm)
    layers = [each for x in unfit for each in layers_to_lease(options[x], known, directory)]
    try:
        return leasing.lease(layers, farm), None
    except UserError as error:
        return [], f"{error.what} ({error.hint})"


def expanded(text: bytes, form: Format, links: Iterable[Link], farm: str | None = None) -> bytes:
    """Return TEXT, in the format FORM, by the long names, those in the directory FARM included.

    Raises UserError, exit code 2.
    """
    try:
        known = prefixes(links)
        if farm:
            from ovl_linkd import leasing

            known += leasing.entries_in(text, farm)
        return form.module.expand(text, known)
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
