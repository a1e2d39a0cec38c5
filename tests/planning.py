"""Layers as containerd names them, with ids of three digits, and what is planned for them."""

from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.overlay.shorten import Plan, Prefix, plan

STORE = b"/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
LINK = Prefix("ctrdl", STORE, b"/run/ctrdl")
LIMITS = of_this_kernel(4096)


def layers(count: int, root: bytes) -> bytes:
    """The paths of COUNT layers below ROOT, the value of a lowerdir."""
    return b":".join(b"%b/%d/fs" % (root, 100 + at) for at in range(count))


def containerd(count: int, root: bytes = STORE) -> bytes:
    """Options for a container of COUNT layers, as containerd writes them."""
    above = b"workdir=%b/999/work,upperdir=%b/999/fs" % (root, root)
    return b"index=off,%b,lowerdir=%b" % (above, layers(count, root))


def decide(options: bytes, *prefixes: Prefix, when: str = "always") -> Plan:
    """plan() for a page of 4 KiB, by LINK if there are no other PREFIXES."""
    return plan(options, prefixes or (LINK,), LIMITS, when)
