"""The Python API: for programs that mount overlays by themselves, or write what others mount.

>>> links = {"/run/l": "/var/lib/store"}
>>> plan = shorten("lowerdir=/var/lib/store/2:/var/lib/store/1", links)
>>> plan.options, plan.links, plan.before, plan.after
(b'lowerdir=/run/l/2:/run/l/1', ('/run/l',), 42, 26)
>>> expand(plan.options, links)
b'lowerdir=/var/lib/store/2:/var/lib/store/1'

A Plan that doesn't fit has no options to mount by, but a reason:

>>> plan = shorten("lowerdir=/var/lib/store/2:/var/lib/store/1", links, limit=20)
>>> plan.options, plan.fits
(b'', False)
>>> print(plan.reason)
6 bytes too long even through the link: 26 bytes, mount(2) takes 20; 1 of 2 layers would fit

A text that holds mounts among other things comes back with nothing else changed:

>>> made = rewrite("overlay /m overlay lowerdir=/var/lib/store/2:/b 0 0", links, format="fstab")
>>> made.text, len(made.plans)
(b'overlay /m overlay lowerdir=/run/l/2:/b 0 0', 1)
"""

import os
from collections.abc import Mapping

from ovl_linkd.errors import UserError
from ovl_linkd.formats.judging import MOUNT2, Means
from ovl_linkd.formats.spelling import Rewritten
from ovl_linkd.formats.table import FORMATS
from ovl_linkd.overlay import limits as _limits
from ovl_linkd.overlay import shorten as _shorten
from ovl_linkd.overlay.options import Malformed
from ovl_linkd.overlay.shorten import Plan, Prefix, Tables

__all__ = ["Malformed", "Plan", "Rewritten", "UserError", "expand", "rewrite", "shorten"]


def shorten(
    options: str | bytes,
    links: Mapping[str, str] | None = None,
    *,
    when: str = "always",
    limit: int | None = None,
) -> Plan:
    """Decide how the OPTIONS of one overlay mount are to be handed to mount(2).

    ``links`` maps each link's path to its target, ``{"/run/ctrdl": "/var/lib/…/snapshots"}``, and
    is taken as it is. By default they are those of the daemon or its configuration which are well
    on disk at this moment. ``when``: ``always`` shortens whatever it can, ``needed`` only options
    that are too long. ``limit``: bytes, by default what mount(2) takes on this machine.

    The Plan's ``options`` are bytes, empty unless it ``fits``. Raises Malformed, a ValueError, for
    options that no kernel takes, and UserError where LINKS is None and the configuration is faulty.
    """
    prefixes = _prefixes(links) if links is not None else _prefixes(_configured(healthy=True))
    of_kernel = _limits.of_this_kernel()
    return _shorten.plan(_encoded(options), prefixes, of_kernel, when, limit=limit)


def rewrite(
    text: str | bytes,
    links: Mapping[str, str] | None = None,
    *,
    format: str = "raw",  # noqa: A002
    when: str = "always",
) -> Rewritten:
    """Shorten the overlay mounts in TEXT, as ``ovl-linkd rewrite --as FORMAT`` does.

    ``format``: ``raw``, ``mount``, ``fstab``, ``unit``, ``oci`` or ``containerd``; those that
    mount(8) reads are judged by this machine's. Nothing but paths in options changes: the Rewritten
    has the ``text``, in bytes, and in ``plans`` a Plan for each overlay mount. **The text is empty
    unless every Plan fits.**

    ``links``, ``when`` and the errors are those of shorten(); Malformed also for a TEXT that is not
    in the format, and ValueError for a format that there is not.
    """
    form = FORMATS.get(format)
    if form is None or not form.shortened:
        names = ", ".join(name for name, each in FORMATS.items() if each.shortened)
        raise ValueError(f"format is {format!r}, none of {names}")
    way = MOUNT2
    if form.by_mount8:
        from ovl_linkd.formats import mount8

        way = mount8.way()
    prefixes = _prefixes(links) if links is not None else _prefixes(_configured(healthy=True))
    means = Means(Tables(prefixes), _limits.of_this_kernel(), when, way=way)
    return form.module.rewrite(_encoded(text), means)


def expand(
    options: str | bytes,
    links: Mapping[str, str] | None = None,
    *,
    format: str = "raw",  # noqa: A002
) -> bytes:
    """Return OPTIONS with the links' targets in place of their paths: shorten() undone.

    For reading and comparing: the result may be longer than mount(2) takes. ``format``: what
    OPTIONS is, as for rewrite(), or ``mountinfo``, lines of /proc/self/mountinfo. ``links`` and the
    errors are those of rewrite(), whatever is on disk. With the configured links names of the farm
    are known, too; one that leads nowhere any more stays as it is.
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}, none of {', '.join(FORMATS)}")
    text = _encoded(options)
    if links is not None:
        known = _prefixes(links)
    else:
        known = _prefixes(_configured(healthy=False)) + _leased(text)
    return FORMATS[format].module.expand(text, known)


def _encoded(options: str | bytes) -> bytes:
    try:
        return os.fsencode(options)
    except UnicodeEncodeError as error:
        char = options[error.start]
        raise Malformed(
            f"the character {char!r} at {error.start:,} has no bytes",
            "give the options as bytes, or as os.fsdecode() makes text of them",
        ) from None


def _prefixes(links: Mapping[str, str]) -> list[Prefix]:
    return [Prefix(path, os.fsencode(target), os.fsencode(path)) for path, target in links.items()]


def _leased(text: bytes) -> list[Prefix]:
    """The entries of the configured farm that TEXT names."""
    from ovl_linkd import leasing, published

    farm = published.known(None).farm
    return leasing.entries_in(text, farm) if farm else []


def _configured(healthy: bool) -> dict[str, str]:
    """The links of the daemon or its configuration; only those that lead where they should."""
    from ovl_linkd import published
    from ovl_linkd.links.link import observe

    return {
        link.path: link.target
        for link in published.known(None).links
        if not healthy or observe(link).state == "ok"
    }
