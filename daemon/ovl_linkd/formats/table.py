"""The formats there are: one table for the command, the Python API, completions and the manual."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import NamedTuple, Protocol, cast

from ovl_linkd.formats.judging import Means
from ovl_linkd.formats.spelling import MOST_JSON, MOST_MOUNTINFO, Rewritten
from ovl_linkd.overlay.options import MAX_TEXT
from ovl_linkd.overlay.shorten import Prefix


class Module(Protocol):
    """What the module of a format offers."""

    def rewrite(self, text: bytes, means: Means) -> Rewritten:
        """Shorten the overlay mounts in TEXT. Raises Malformed."""

    def mounts(self, text: bytes) -> Iterator[bytes]:
        """Yield the options of each overlay mount in TEXT, in the order of rewrite()'s plans.

        Raises Malformed. Not of durable formats: for them nothing is leased.
        """

    def expand(self, text: bytes, prefixes: Sequence[Prefix]) -> bytes:
        """Return TEXT by the long names. Raises Malformed."""


class Format(NamedTuple):
    """``about``: what is given, in a few words. ``by_mount8``: mount(8) is who reads it.
    ``durable``: it outlives a boot, so that no short name of a farm may stand in it. ``most``:
    bytes of it that are looked at. ``shortened``: whether it can be, or is to be expanded only."""

    name: str
    about: str
    by_mount8: bool
    durable: bool
    module_name: str
    most: int = MAX_TEXT
    shortened: bool = True

    @property
    def module(self) -> Module:
        """The code of this format, imported when it is first used."""
        return cast("Module", import_module(f"ovl_linkd.formats.{self.module_name}"))


FORMATS = {
    each.name: each
    for each in (
        Format("raw", "the options alone", False, False, "raw"),
        Format("mount", "mount(8) command lines", True, False, "mount_line"),
        Format("fstab", "lines of fstab", True, True, "fstab"),
        Format("unit", "a .mount unit of systemd", True, True, "mount_unit"),
        Format("oci", "an OCI runtime's config.json", False, False, "oci", MOST_JSON),
        Format("containerd", "containerd's mounts as JSON", False, False, "containerd", MOST_JSON),
        Format(
            "mountinfo",
            "lines of /proc/self/mountinfo, which can only be expanded",
            False,
            False,
            "mountinfo",
            MOST_MOUNTINFO,
            shortened=False,
        ),
    )
}
