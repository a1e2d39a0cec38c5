"""containerd's mounts as JSON: ``[{"type": …, "source": …, "target": …, "options": […]}]``.

Or an object with such a list as its ``mounts``, as the snapshots service answers. Source:
containerd's api/types/mount.proto, core/mount/mount.go, whose keys begin with capitals.
"""

from ovl_linkd.formats import json_mounts
from ovl_linkd.formats.json_mounts import InJson, Overlay
from ovl_linkd.formats.json_text import OBJECT, Value


def overlays(value: Value) -> list[Overlay]:
    """Return the overlay mounts of VALUE. Raises Malformed."""
    mounts = value.get("mounts") if value.kind == OBJECT else value
    return [] if mounts is None else json_mounts.overlays(mounts)


_FORMAT = InJson(overlays)
rewrite, mounts, expand = _FORMAT.rewrite, _FORMAT.mounts, _FORMAT.expand
