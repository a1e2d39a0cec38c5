"""Overlay mounts in lists of mounts in JSON: in OCI's config.json, and as containerd has them.

Each has its options as a list of strings; runtimes take out those that are flags of mount(2) and
join the others with commas. Only paths in these strings change; all else stays byte for byte.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ovl_linkd.formats import json_text
from ovl_linkd.formats.json_text import ARRAY, OBJECT, STRING, Value
from ovl_linkd.formats.judging import Means
from ovl_linkd.formats.spelling import (
    MOST_JSON,
    Edit,
    Rewritten,
    Spelt,
    apart,
    apply,
    changes,
    outcome,
    refuse_unreadable,
    respelt,
)
from ovl_linkd.overlay import shorten
from ovl_linkd.overlay.options import Malformed
from ovl_linkd.overlay.shorten import Plan, Prefix, Tables

#: Words that are flags of mount(2), of the mount's propagation or of the runtime itself: they are
#: no part of what the kernel gets as text. Sources: runc's libcontainer/specconv/spec_linux.go,
#: crun's src/libcrun/mount_flags.perf, containerd's core/mount/mount_linux.go.
FLAGS = frozenset(
    b"async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime "
    b"nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid "
    b"nosymfollow rbind relatime remount ro rw silent strictatime suid sync symfollow "
    b"private rprivate rshared rslave runbindable shared slave unbindable "
    b"rro rrw rnosuid rsuid rnodev rdev rnoexec rexec rnodiratime rdiratime rrelatime rnorelatime "
    b"rnoatime ratime rstrictatime rnostrictatime rnosymfollow rsymfollow "
    b"tmpcopyup idmap ridmap copy-symlink dest-nofollow src-nofollow".split()
)
_BINDS = (b"bind", b"rbind")


class Overlay(NamedTuple):
    """An overlay mount: ``options`` are those of its strings that are no flags. ``at``: where it
    begins in the text. ``added``: bytes of options that the runtime adds."""

    options: tuple[Spelt, ...]
    at: int
    added: int = 0

    @property
    def joined(self) -> bytes:
        """The options as the kernel gets them."""
        return b",".join(option.value for option in self.options)


def overlays(mounts: Value) -> list[Overlay]:
    """Return the overlay mounts of the list MOUNTS. Raises Malformed."""
    found = []
    for mount in mounts.expect(ARRAY, "mounts").items:
        fstype = mount.expect(OBJECT, "a mount").get("type")
        listed = mount.get("options")
        if fstype is None or listed is None or not fstype.says(b"overlay"):
            continue
        strings = [
            option.expect(STRING, "an option").string()
            for option in listed.expect(ARRAY, "options").items
        ]
        if not any(string.value in _BINDS for string in strings):
            data = tuple(string for string in strings if string.value not in FLAGS)
            found.append(Overlay(data, mount.start))
    return found


class InJson(NamedTuple):
    """A format: JSON, of any shape, in which ``overlays`` finds the overlay mounts.

    Its methods are what table.Module says. They raise Malformed, with line and column.
    """

    overlays: Callable[[Value], Iterable[Overlay]]

    def rewrite(self, text: bytes, means: Means) -> Rewritten:
        """Shorten the overlay mounts in TEXT; whoever reads it is taken to call mount(2)."""
        plans: list[Plan] = []
        edits: list[Edit] = []
        for overlay in self.overlays(_read(text)):
            limit_of = "mount(2) beside the label" if overlay.added else "mount(2)"
            try:
                plan = means.plan(overlay.joined, means.limits.mount - overlay.added, limit_of)
                if plan.fits:
                    edits += _edits(overlay, plan.options)
            except Malformed as error:
                raise json_text.located(text, overlay.at, error) from None
            plans.append(plan)
        return outcome(text, edits, plans)

    def mounts(self, text: bytes) -> Iterator[bytes]:
        """Yield the options of each overlay mount in TEXT."""
        for overlay in self.overlays(_read(text)):
            yield overlay.joined

    def expand(self, text: bytes, prefixes: Sequence[Prefix]) -> bytes:
        """Return TEXT by the long names."""
        edits: list[Edit] = []
        tables = Tables(prefixes)
        for overlay in self.overlays(_read(text)):
            try:
                edits += _edits(overlay, shorten.expand(overlay.joined, tables))
            except Malformed as error:
                raise json_text.located(text, overlay.at, error) from None
        return apply(text, edits)


def _read(text: bytes) -> Value:
    refuse_unreadable(text, "JSON", MOST_JSON)
    return json_text.read(text)


def _edits(overlay: Overlay, options: bytes) -> list[Edit]:
    _refuse_what_is_no_text(options)
    pieces = [option.value for option in overlay.options]
    found: list[Edit] = []
    for option, mine in zip(
        overlay.options, apart(changes(overlay.joined, options), pieces), strict=True
    ):
        found += respelt(option, mine, json_text.spell)
    return found


def _refuse_what_is_no_text(options: bytes) -> None:
    try:
        options.decode()
    except UnicodeDecodeError:
        raise Malformed(
            "JSON can't hold a path that is not UTF-8", "give the link a target that is UTF-8"
        ) from None
