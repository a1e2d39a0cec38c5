"""The system calls that mount: mount(2), umount2(2), unshare(2).

The only module that hands options to the kernel, and it refuses what the kernel would cut.
Paths are str or bytes; options are bytes. A system call that fails raises OSError with its errno
and the path it was about. ctypes costs a short-lived command more than all the rest of this
module, so it is imported by the first call that needs it.
"""

import errno
import os
import stat
from typing import TYPE_CHECKING

from ovl_linkd.overlay import limits as _limits
from ovl_linkd.overlay import options as _options
from ovl_linkd.overlay.prefixes import unescape

if TYPE_CHECKING:
    import ctypes

# <linux/mount.h>, <linux/sched.h>
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

Path = str | bytes


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
    texts = [_text(part) for part in (source, target, fstype, data)]
    libc = _libc()
    _check(libc.mount(*texts[:3], _unsigned_long(flags), texts[3]), target)


def umount(target: Path, lazy: bool = False) -> None:
    """Unmount what is mounted at target; lazy: detach it now, let it go when it's no longer used.

    Raises OSError (EBUSY where it is in use, EINVAL where nothing is mounted).
    """
    _check(_libc().umount2(_text(target), MNT_DETACH if lazy else 0), target)


def make_private(target: Path = b"/") -> None:
    """Make target and all mounts below it private: no mount goes out from here or comes in."""
    mount(b"none", target, b"", MS_REC | MS_PRIVATE)


def unshare(flags: int) -> None:
    """Move this process into new namespaces, a set of CLONE_NEW*. Raises OSError."""
    _check(_libc().unshare(flags), None)


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
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    make_private()


def diagnose(options: bytes, error: OSError) -> str | None:
    """Why mounting an overlay with options failed with error, where looking can tell; or None.

    mount(2) answers with a number only. error.filename is taken as the mount point, if set. What
    is looked at is the disk as it is now, by this process, from its working directory.
    """
    if error.errno == errno.ENODEV:
        return "this kernel has no overlay file system, or its module is not loaded"
    if error.errno not in _KNOWABLE:
        return None
    if error.filename is not None and not os.path.isdir(error.filename):
        return f"no directory to mount on: {os.fsdecode(error.filename)}"
    try:
        parsed = _options.parse(options)
    except _options.Malformed as malformed:
        return str(malformed)
    directories = _directories(parsed)
    if reason := _missing(directories):
        return reason
    return _unfit(parsed, dict(directories)) if error.errno == errno.EINVAL else None


_KNOWABLE = (errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG)


def _directories(parsed: _options.Options) -> list[tuple[str, bytes]]:
    """What each directory in the options is for, and its path as the kernel will look it up."""
    listed: list[bytes] = []
    single: list[bytes] = []
    others: list[tuple[str, bytes]] = []
    for name, value in parsed.items():
        match _options.SPELLING.get(name):
            case _options.LIST:
                listed = [unescape(layer) for layer in _options.layers_of(value or b"")]
            case _options.RAW:
                single.append(value or b"")
            case _options.PATH:
                others.append((name.decode(), unescape(value or b"")))
    layers = listed + single
    numbered = [(f"lower layer {i} of {len(layers)}", path) for i, path in enumerate(layers, 1)]
    return numbered + others


def _missing(directories: list[tuple[str, bytes]]) -> str | None:
    """The first of them that is no directory, and what is there instead."""
    for what, path in directories:
        shown = os.fsdecode(path)
        try:
            if not stat.S_ISDIR(os.stat(path).st_mode):
                return f"{what} is not a directory: {shown}"
        except FileNotFoundError:
            return f"{what} does not exist: {shown}"
        except OSError as error:
            return f"{what}: {error.strerror}: {shown}"
    return None


def _unfit(parsed: _options.Options, directories: dict[str, bytes]) -> str | None:
    """What EINVAL means where every directory is there (fs/overlayfs/super.c, params.c)."""
    most = _limits.of_this_kernel().layers
    if parsed.layers > most:
        return f"{parsed.layers} lower layers; the kernel takes {most}"
    upper, work = directories.get("upperdir"), directories.get("workdir")
    if upper is not None and work is None:
        return "an upperdir needs a workdir"
    if upper is None and work is not None:
        return "a workdir needs an upperdir"
    if upper is None and parsed.layers == 1:
        return "one lower layer and no upperdir: at least two layers are needed"
    if upper is not None and work is not None:
        if os.stat(upper).st_dev != os.stat(work).st_dev:
            return "upperdir and workdir are on different file systems"
        if os.statvfs(upper).f_flag & os.ST_RDONLY:
            return f"the file system of upperdir is read-only: {os.fsdecode(upper)}"
    return None


def _text(value: Path) -> bytes:
    """The bytes the kernel reads. C strings end at a NUL: past one, all would be lost silently."""
    text = os.fsencode(value)
    if b"\0" in text:
        raise ValueError("a NUL byte: the kernel reads only what stands before it")
    return text


def _check(result: int, path: Path | None) -> None:
    if result == 0:
        return
    import ctypes

    number = ctypes.get_errno()
    if path is None:
        raise OSError(number, os.strerror(number))
    raise OSError(number, os.strerror(number), os.fsdecode(path))


def _libc() -> "ctypes.CDLL":
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _unsigned_long(value: int) -> "ctypes.c_ulong":
    import ctypes

    return ctypes.c_ulong(value)
