"""containerd's mounts as JSON: ``[{"type": …, "source": …, "target": …, "options": […]}]``.

Or an object with such a list as its ``mounts``, as the snapshots service answers. Source:
containerd's api/types/mount.proto, core/mount/mount.go, whose keys begin with capitals.
"""

from collections.abc import Iterator, Sequence

from ovl_linkd.formats import json_mounts
from ovl_linkd.formats.json_mounts import Overlay
from ovl_linkd.formats.json_text import OBJECT, Value
from ovl_linkd.formats.judging import MOUNT2
from ovl_linkd.formats.spelling import Rewritten
from ovl_linkd.overlay import shorten
from ovl_linkd.overlay.limits import Limits
from ovl_linkd.overlay.shorten import Prefix


def rewrite(
    text: bytes,
    prefixes: Sequence[Prefix],
    limits: Limits,
    when: str = shorten.ALWAYS,
    *,
    farm: Sequence[Prefix] = (),
    way: str = MOUNT2,
) -> Rewritten:
    """Shorten the overlay mounts in TEXT. Raises Malformed, with line and column.

    Whoever mounts them is taken to call mount(2), whatever the WAY of mount(8) is.
    """
    del way
    return json_mounts.rewrite(text, _overlays, prefixes, limits, when, farm)


def mounts(text: bytes) -> Iterator[bytes]:
    """Yield the options of each overlay mount in TEXT. Raises Malformed as rewrite()."""
    return json_mounts.options(text, _overlays)


def expand(text: bytes, prefixes: Sequence[Prefix]) -> bytes:
    """Return the mounts TEXT by the long names. Raises Malformed as rewrite()."""
    return json_mounts.expand(text, _overlays, prefixes)


def _overlays(value: Value) -> list[Overlay]:
    mounts = value.get("mounts") if value.kind == OBJECT else value
    return [] if mounts is None else json_mounts.overlays(mounts)
