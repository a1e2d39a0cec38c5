"""The OCI runtime's config.json: the options of its mounts whose type is overlay.

Source: the runtime specification's config.md; runc's libcontainer/specconv and rootfs_linux.go.
"""

from collections.abc import Iterator, Sequence

from ovl_linkd.formats import json_mounts
from ovl_linkd.formats.json_mounts import Overlay
from ovl_linkd.formats.json_text import OBJECT, STRING, Value
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
    """Shorten the overlay mounts of the config.json TEXT. Raises Malformed, with line and column.

    Runtimes call mount(2), whatever the WAY of mount(8) is.
    """
    del way
    return json_mounts.rewrite(text, overlays, prefixes, limits, when, farm)


def mounts(text: bytes) -> Iterator[bytes]:
    """Yield the options of each overlay mount in TEXT. Raises Malformed as rewrite()."""
    return json_mounts.options(text, overlays)


def expand(text: bytes, prefixes: Sequence[Prefix]) -> bytes:
    """Return the config.json TEXT by the long names. Raises Malformed as rewrite()."""
    return json_mounts.expand(text, overlays, prefixes)


def overlays(config: Value) -> list[Overlay]:
    """Return the overlay mounts of CONFIG. Raises Malformed."""
    mounts = config.expect(OBJECT, "config.json").get("mounts")
    if mounts is None:
        return []
    added = _label(config)
    return [overlay._replace(added=added) for overlay in json_mounts.overlays(mounts)]


def _label(config: Value) -> int:
    """Return how many bytes of options runtimes add for the ``mountLabel`` of SELinux."""
    linux = config.get("linux")
    label = linux.expect(OBJECT, "linux").get("mountLabel") if linux else None
    value = label.expect(STRING, "mountLabel").string().value if label else b""
    return len(b',context="%b"' % value) if value else 0
