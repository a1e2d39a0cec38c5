"""The system calls that mount: mount(2), umount2(2), unshare(2), setns(2).

The only module that hands options to mount(2), and it refuses what the kernel would cut.
Paths are str or bytes; options are bytes. A system call that fails raises OSError with its errno
and the path it was about.
"""

import os

from ovl_linkd.overlay import limits as _limits
from ovl_linkd.overlay.calls import Path, check, libc, text, unsigned_long

# <linux/mount.h>, <linux/sched.h>
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_MANDLOCK = 0x40
MS_DIRSYNC = 0x80
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SILENT = 0x8000
MS_PRIVATE = 0x40000
MS_RELATIME = 0x200000
MS_I_VERSION = 0x800000
MS_STRICTATIME = 0x1000000
MS_LAZYTIME = 0x2000000
MNT_DETACH = 0x2
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000


class OptionsTooLong(ValueError):
    """The options are longer than what mount(2) reads: it would drop the rest without an error.

    size, limit: bytes. Source: copy_mount_options in the kernel's fs/namespace.c.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"{size:,} bytes of mount options, but mount(2) reads {limit:,} "
            "and drops the rest without an error"
        )
        self.size = size
        self.limit = limit


def mount_overlay(
    source: Path,
    target: Path,
    options: bytes,
    flags: int = 0,
    limits: _limits.Limits | None = None,
) -> None:
    """Mount an overlay at target by mount(2).

    source is the free text that mountinfo shows. Raises OptionsTooLong, without calling the
    kernel, where options don't fit limits.mount (by default this machine's page), ValueError for
    a NUL byte, OSError for what the kernel refuses; diagnose() may know why it did.
    """
    limit = (limits or _limits.of_this_kernel()).mount
    if len(options) > limit:
        raise OptionsTooLong(len(options), limit)
    mount(source, target, b"overlay", flags, options)


def mount(source: Path, target: Path, fstype: Path, flags: int = 0, data: bytes = b"") -> None:
    """mount(2) as it is, for what is not an overlay: tmpfs, proc, propagation.

    Raises OptionsTooLong past the page of this machine, ValueError for a NUL byte, OSError.
    """
    limit = _limits.of_this_kernel().mount
    if len(data) > limit:
        raise OptionsTooLong(len(data), limit)
    texts = [text(part) for part in (source, target, fstype, data)]
    check(libc().mount(*texts[:3], unsigned_long(flags), texts[3]), target)


def umount(target: Path, lazy: bool = False) -> None:
    """Unmount what is mounted at target; lazy: detach it now, let it go when it's no longer used.

    Raises OSError (EBUSY where it is in use, EINVAL where nothing is mounted).
    """
    check(libc().umount2(text(target), MNT_DETACH if lazy else 0), target)


def make_private(target: Path = b"/") -> None:
    """Make target and all mounts below it private: no mount goes out from here or comes in."""
    mount(b"none", target, b"", MS_REC | MS_PRIVATE)


def unshare(flags: int) -> None:
    """Move this process into new namespaces, a set of CLONE_NEW*. Raises OSError."""
    check(libc().unshare(flags))


def join_mount_namespace(descriptor: int) -> None:
    """Move this process into the mount namespace of DESCRIPTOR. Raises OSError."""
    check(libc().setns(descriptor, CLONE_NEWNS))


def private_mount_namespace(flags: int = 0) -> None:
    """Give this process a mount namespace of its own, from which no mount leaks out.

    flags: further CLONE_NEW* to unshare in the same call. Raises OSError; EPERM without
    CAP_SYS_ADMIN.
    """
    unshare(CLONE_NEWNS | flags)
    make_private()


def private_user_namespace(flags: int = 0) -> None:
    """Become root of a new user and mount namespace, as an unprivileged user may where allowed.

    Only the caller's own user and group exist in it, as 0. flags: further CLONE_NEW*. Raises
    OSError: EPERM or EACCES where the machine forbids it, ENOSPC where user.max_user_namespaces
    does.
    """
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER | CLONE_NEWNS | flags)
    # Without "deny" first, a user without CAP_SETGID may not write a gid_map (user_namespaces(7)).
    for name, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)
    make_private()
