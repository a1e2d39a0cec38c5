"""The short names that calls may be rewritten to, as the daemon keeps them now."""

import os

from ovl_linkd import leasing, published
from ovl_linkd.intercept.decide import Names
from ovl_linkd.overlay.prefixes import Prefix


class KnownNames:
    """Names that follow the daemon's published state; those of KNOWN before, or without one.

    A supervisor lives as long as the last container, and links come and go meanwhile. A name that
    is out of date does no harm: each is looked at where the caller sees it before it counts.
    """

    def __init__(self, known: published.Published, follow: bool) -> None:
        self._names = _names(known)
        self._follow = follow
        self._seen: tuple[int, int] | None = None

    def __call__(self) -> Names:
        """The names as they are now."""
        if self._follow:
            try:
                status = os.stat(published.PATH)
            except OSError:
                return self._names  # the daemon's state is not there: the links may be
            seen = (status.st_ino, status.st_mtime_ns)
            if seen != self._seen and (known := published.read()):
                self._seen = seen
                self._names = _names(known)
        return self._names


def _names(known: published.Published) -> Names:
    links = [
        Prefix(link.name, os.fsencode(link.target), os.fsencode(link.path)) for link in known.links
    ]
    if known.farm is None:
        return Names(links)
    farm = os.fsencode(known.farm)
    return Names(links, farm, lambda paths: leasing.lease(paths, known), known.lasting)
