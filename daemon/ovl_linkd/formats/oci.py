"""The OCI runtime's config.json: the options of its mounts whose type is overlay.

Source: the runtime specification's config.md; runc's libcontainer/specconv and rootfs_linux.go.
"""

from ovl_linkd.formats import json_mounts
from ovl_linkd.formats.json_mounts import InJson, Overlay
from ovl_linkd.formats.json_text import OBJECT, STRING, Value


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


_FORMAT = InJson(overlays)
rewrite, mounts, expand = _FORMAT.rewrite, _FORMAT.mounts, _FORMAT.expand
