"""mount(8)'s options, as its helper gets them: what is for the kernel's flags, and what for nobody.

Source: libmount/src/optmap.c of util-linux, where the same table says what is whose.
"""

from typing import NamedTuple

from ovl_linkd.overlay import mounting
from ovl_linkd.overlay.options import Options

# What sets a flag of mount(2), and what clears one.
_SETS = {
    b"ro": mounting.MS_RDONLY,
    b"nosuid": mounting.MS_NOSUID,
    b"nodev": mounting.MS_NODEV,
    b"noexec": mounting.MS_NOEXEC,
    b"sync": mounting.MS_SYNCHRONOUS,
    b"dirsync": mounting.MS_DIRSYNC,
    b"remount": mounting.MS_REMOUNT,
    b"bind": mounting.MS_BIND,
    b"rbind": mounting.MS_BIND | mounting.MS_REC,
    b"mand": mounting.MS_MANDLOCK,
    b"noatime": mounting.MS_NOATIME,
    b"nodiratime": mounting.MS_NODIRATIME,
    b"relatime": mounting.MS_RELATIME,
    b"strictatime": mounting.MS_STRICTATIME,
    b"lazytime": mounting.MS_LAZYTIME,
    b"iversion": mounting.MS_I_VERSION,
    b"silent": mounting.MS_SILENT,
    b"nosymfollow": mounting.MS_NOSYMFOLLOW,
}
_CLEARS = {
    b"rw": b"ro",
    b"suid": b"nosuid",
    b"dev": b"nodev",
    b"exec": b"noexec",
    b"async": b"sync",
    b"nomand": b"mand",
    b"atime": b"noatime",
    b"diratime": b"nodiratime",
    b"norelatime": b"relatime",
    b"nostrictatime": b"strictatime",
    b"nolazytime": b"lazytime",
    b"noiversion": b"iversion",
    b"loud": b"silent",
    b"symfollow": b"nosymfollow",
}
# For the daemons and programs that read fstab. What `user` and its like imply, mount(8) has already
# put beside them.
_FOR_NOBODY = frozenset(
    (
        *(b"nofail", b"_netdev", b"auto", b"noauto", b"defaults", b"comment"),
        *(b"user", b"nouser", b"users", b"nousers", b"owner", b"noowner", b"group", b"nogroup"),
        *(b"helper", b"uhelper"),
    )
)
# What makes of a mount something that no layers belong to.
_OTHER_CALLS = frozenset(
    (
        *(b"bind", b"rbind", b"move"),
        *(prefix + name for prefix in (b"", b"r") for name in (b"private", b"slave", b"shared")),
        *(b"unbindable", b"runbindable"),
    )
)
# From util-linux 2.39 on a flag may say how far it goes: a new overlay is all that there is of it.
_HOW_FAR = (b"recursive", b"vfs", b"fs")


class Asked(NamedTuple):
    """What a call of mount(8) asks for.

    ``flags``: MS_*. ``options``: those that are left, the overlay's own. ``other``: the option
    that makes it a bind, a move or a change of propagation, or None.
    """

    flags: int
    options: Options
    other: bytes | None

    @property
    def remount(self) -> bool:
        """Whether only flags of what is mounted are to change."""
        return bool(self.flags & mounting.MS_REMOUNT)


def take_out(options: Options) -> Asked:
    """Part OPTIONS by whose they are. The last word on a flag is what holds."""
    flags, other, kept = 0, None, []
    for part in options.parts:
        name, equals, value = part.partition(b"=")
        if name in _FOR_NOBODY or name[:2] in (b"x-", b"X-"):
            continue
        is_flag = name in _SETS or name in _CLEARS
        if equals and not (is_flag and value in _HOW_FAR):
            kept.append(part)
            continue
        if name in _OTHER_CALLS:
            other = name
        if name in _SETS:
            flags |= _SETS[name]
        elif name in _CLEARS:
            flags &= ~_SETS[_CLEARS[name]]
        elif name and name not in _OTHER_CALLS:
            kept.append(part)
    if flags & mounting.MS_REMOUNT and other in (b"bind", b"rbind"):
        other = None  # of this one mount only the flags change, not those of its file system
    return Asked(flags, options._replace(parts=tuple(kept)), other)
