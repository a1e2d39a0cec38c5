"""Options shortened for somebody who asks the daemon."""

import os
from collections.abc import Iterable

from ovl_linkd.links.history import Status
from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.overlay.options import Malformed
from ovl_linkd.overlay.shorten import Prefix, layers_to_lease, plan
from ovl_linkd.service.farming import Farming
from ovl_linkd.service.wire import Rewritten

MOST_OPTIONS = 131_060  # bytes; what one argument of mount(8) may hold (execve(2), MAX_ARG_STRLEN)


def rewrite(statuses: Iterable[Status], farming: Farming, options: str, when: str) -> Rewritten:
    """Shorten OPTIONS by those links of STATUSES that are well, then by what is leased already.

    Everybody may ask for this, so nothing is leased for it, and no lease made longer. To use those
    that others have is safe: within a boot a name never leads elsewhere, so that one which is gone
    too soon is a mount that fails, and not one of other layers. Raises ValueError, Malformed among
    others, if the options or ``when`` are none.
    """
    raw = os.fsencode(options)
    if len(raw) > MOST_OPTIONS:
        hint = "split them, or run ovl-linkd rewrite, which has time"
        raise Malformed(f"{len(raw):,} bytes of options, one -o carries {MOST_OPTIONS:,}", hint)
    prefixes = [
        Prefix(status.link.name, os.fsencode(status.link.target), os.fsencode(status.link.path))
        for status in statuses
        if status.state == "ok"
    ]
    limits = of_this_kernel()
    made = plan(raw, prefixes, limits, when)
    if not made.fits and made.layers <= limits.layers and (path := farming.path):
        farm = farming.known(layers_to_lease(raw, prefixes, os.fsencode(path)))
        made = plan(raw, prefixes, limits, when, farm=farm)
    return Rewritten(
        strategy=made.strategy,
        options=os.fsdecode(made.options),
        before=made.before,
        after=made.after,
        limit=made.limit,
        layers=made.layers,
        fits=made.fits,
        reason=made.reason,
        remedy=made.remedy,
    )
