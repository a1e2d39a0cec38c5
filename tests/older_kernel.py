"""A kernel that knows less than this one: a seccomp filter that answers as the older one would."""

import ctypes
import errno
import struct

from ovl_linkd.overlay.calls import check, libc

# The numbers of these calls are the same on all architectures, so that none needs to be checked.
FSOPEN, FSCONFIG = 430, 431
SET_STRING, SET_FD = 1, 5

_NUMBER, _SECOND_ARGUMENT = 0, 24  # offsets in struct seccomp_data, <linux/seccomp.h>
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # <linux/filter.h>
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_PR_SET_NO_NEW_PRIVS = 38


def without_fsopen() -> None:
    """As before Linux 5.2, and below filters of containers: there is no such call."""
    _filter(_load(_NUMBER) + _refuse_if(FSOPEN, errno.ENOSYS))


def without_one_by_one() -> None:
    """As before Linux 6.7: no value of a layer is taken. (Here none of any option.)"""
    _refuse_configuring(SET_STRING)


def without_descriptors() -> None:
    """As before Linux 6.13: no directory is taken in place of its path."""
    _refuse_configuring(SET_FD)


def _refuse_configuring(command: int) -> None:
    skip = _instruction(_EQUAL, FSCONFIG, when_false=3)
    _filter(_load(_NUMBER) + skip + _load(_SECOND_ARGUMENT) + _refuse_if(command, errno.EINVAL))


def _load(offset: int) -> bytes:
    return _instruction(_LOAD, offset)


def _refuse_if(value: int, error: int) -> bytes:
    return _instruction(_EQUAL, value, when_false=1) + _instruction(_RETURN, _ERRNO | error)


def _instruction(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, when_true, when_false, value)


def _filter(program: bytes) -> None:
    """Put PROGRAM, and then "allow", on this process and all that it will start."""
    program += _instruction(_RETURN, _ALLOW)
    buffer = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    check(libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    check(libc().prctl(_PR_SET_SECCOMP, _MODE_FILTER, described, 0, 0))
