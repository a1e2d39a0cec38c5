"""The append-only flag of a directory: names can be made in it, and none removed or replaced.

Not even by root, so that no cleaner gets at a name; chattr(1) calls the flag `a`. Who sets it needs
CAP_LINUX_IMMUTABLE. tmpfs has it from Linux 6.0 on (mm/shmem.c, shmem_fileattr_set).
"""

import fcntl
import os
import struct

#: what to say, and to do, where it should be set and isn't
NOT_SET = "its guard is not set"
# The unit may be active all the same: guarded no more by hand, or not loaded since.
SET = "systemctl enable ovl-linkd-guard; systemctl reload-or-restart ovl-linkd-guard"

_GETFLAGS = 0x80086601  # include/uapi/linux/fs.h FS_IOC_GETFLAGS, where a long has 64 bits
_SETFLAGS = 0x40086602  # FS_IOC_SETFLAGS; not on MIPS, PowerPC and SPARC, which count otherwise
_APPEND = 0x20  # FS_APPEND_FL


def is_append_only(directory: str) -> bool | None:
    """Whether DIRECTORY has the flag; None where that can't be told."""
    try:
        descriptor = _open(directory)
    except OSError:
        return None
    try:
        return bool(_flags(descriptor) & _APPEND)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def set_append_only(directory: str, wanted: bool) -> bool:
    """Set the flag of DIRECTORY, or clear it; whether it was otherwise.

    A symlink is not followed. Raises OSError: EPERM without CAP_LINUX_IMMUTABLE, ENOTTY or
    EOPNOTSUPP on a file system that has no such flag.
    """
    descriptor = _open(directory)
    try:
        before = _flags(descriptor)
        after = before | _APPEND if wanted else before & ~_APPEND
        if after != before:
            # An int, whatever the name says: ioctl_iflags(2).
            fcntl.ioctl(descriptor, _SETFLAGS, struct.pack("i", after))
        return after != before
    finally:
        os.close(descriptor)


def _open(directory: str) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _flags(descriptor: int) -> int:
    found: int = struct.unpack("i", fcntl.ioctl(descriptor, _GETFLAGS, bytes(8))[:4])[0]
    return found
