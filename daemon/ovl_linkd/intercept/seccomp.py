"""The filter and its listener: seccomp(2), and the ioctl(2)s of seccomp_unotify(2).

By the bare system calls: libseccomp knows SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV from 2.6 on, which
Debian 12 does not have; its Python binding is in no registry but Debian's; and a notification must
be received straight into shared memory (slots), which no binding offers. What is needed of BPF are
four instructions.

Sources: <linux/seccomp.h>, <linux/audit.h>, <linux/filter.h>; kernel/seccomp.c.
"""

import ctypes
import errno
import os
import select
import struct
import sys
from typing import NamedTuple

from ovl_linkd.errors import UserError

#: exit code of a command whose wrapper could not do its part, as with env(1) and timeout(1)
FAILED = 125

# Which number mount(2) has in each way to call the kernel that a program may use here: a 64-bit
# kernel also runs 32-bit programs, and x32 ones, whose numbers have a bit of their own.
_X86_64, _I386, _AARCH64, _ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
_MOUNT = {
    _X86_64: (165, 165 | 0x40000000),
    _I386: (21,),
    _AARCH64: (40,),
    _ARM: (21,),
}
_SECCOMP = {"x86_64": 317, "aarch64": 277}

_SET_MODE_FILTER = 1
_GET_NOTIF_SIZES = 3
_NEW_LISTENER = 1 << 3
_WAIT_KILLABLE_RECV = 1 << 5  # Linux 5.19
_FLAGS_WANTED = _NEW_LISTENER | _WAIT_KILLABLE_RECV
_ALLOW = 0x7FFF0000
_USER_NOTIF = 0x7FC00000
_PR_SET_NO_NEW_PRIVS = 38

_RECV = 0xC0502100
_SEND = 0xC0182101
_ID_VALID = 0x40082102
_SET_FLAGS = 0x40082104  # Linux 6.6
_SYNC_WAKE_UP = 1
_CONTINUE = 1

# What seccomp_data holds, and where (offsets in bytes).
_NR, _ARCH, _ARGUMENTS = 0, 4, 16
_FLAGS, _DATA = 3, 4  # arguments of mount(2)
_LOW, _HIGH = (0, 4) if sys.byteorder == "little" else (4, 0)

# MS_REMOUNT, MS_BIND, MS_MOVE, and MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED: with any of
# these the kernel reads neither type nor options (fs/namespace.c, path_mount).
_OTHER_CALLS = 0x20 | 0x1000 | 0x2000
_PROPAGATION = 0x20000 | 0x40000 | 0x80000 | 0x100000
# Programs from before Linux 2.4 marked their flags with this; the kernel takes it out.
_MAGIC, _MAGIC_MASK = 0xC0ED0000, 0xFFFF0000


class Notification(ctypes.Structure):
    """struct seccomp_notif. ``arch`` is never 0 in one that was received."""

    id: int
    pid: int
    nr: int
    arch: int
    args: "ctypes.Array[ctypes.c_uint64]"

    _fields_ = (
        ("id", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("nr", ctypes.c_int32),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("args", ctypes.c_uint64 * 6),
    )


_ANSWER = struct.Struct("=QqiI")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_ioctl = _libc.ioctl
_ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)


# --- the filter ------------------------------------------------------------------------------


class _Step(NamedTuple):
    """One instruction; ``yes`` and ``no`` are labels to go on at, "" the next instruction."""

    code: int
    value: int
    yes: str = ""
    no: str = ""
    label: str = ""


_LOAD, _MASK, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x45, 0x06


def program() -> bytes:
    """The filter: asks about calls of mount(2) that have options to read, and allows all else."""
    steps = [_Step(_LOAD, _ARCH)]
    # Numbers before arguments: for all other calls the kernel then knows once and for all that
    # they are allowed, and does not run the filter (seccomp_cache_prepare).
    for arch, numbers in _MOUNT.items():
        after = f"after {arch}"
        steps += [_Step(_EQUAL, arch, no=after), _Step(_LOAD, _NR)]
        steps += [_Step(_EQUAL, number, yes="flags") for number in numbers]
        steps += [_Step(_RETURN, _ALLOW), _Step(_LOAD, _ARCH, label=after)]
    steps += [
        _Step(_RETURN, _ALLOW),
        _Step(_LOAD, _argument(_FLAGS, _LOW), label="flags"),
        _Step(_ANY_BIT, _OTHER_CALLS, yes="allow"),
        _Step(_MASK, _MAGIC_MASK),
        _Step(_EQUAL, _MAGIC, yes="data"),
        _Step(_ANY_BIT, _PROPAGATION, yes="allow"),
        _Step(_LOAD, _argument(_DATA, _LOW), label="data"),
        _Step(_EQUAL, 0, no="ask"),
        _Step(_LOAD, _argument(_DATA, _HIGH)),
        _Step(_EQUAL, 0, yes="allow"),
        _Step(_RETURN, _USER_NOTIF, label="ask"),
        _Step(_RETURN, _ALLOW, label="allow"),
    ]
    return _assembled(steps)


def _argument(number: int, half: int) -> int:
    return _ARGUMENTS + 8 * number + half


def _assembled(steps: list[_Step]) -> bytes:
    places = {step.label: at for at, step in enumerate(steps) if step.label}
    code = b""
    for at, step in enumerate(steps, 1):
        yes, no = (places[label] - at if label else 0 for label in (step.yes, step.no))
        code += struct.pack("=HBBI", step.code, yes, no, step.value)
    return code


def install(no_new_privs: bool = False) -> int:
    """Put this process, and all that comes of it, under the filter; return the listener.

    With NO_NEW_PRIVS, setuid programs below get no more rights than others. Raises UserError
    where the kernel does not take it: only the supervisor makes a mount(2) return from here on.
    """
    code = program()
    instructions = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog
    filter_ = struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions))
    if no_new_privs:
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = _seccomp(_SET_MODE_FILTER, _FLAGS_WANTED, filter_)
    if listener < 0:
        raise _refused(ctypes.get_errno())
    return listener


def check_machine() -> None:
    """Raise UserError where install() can't work, whoever calls it; this process stays as it is."""
    machine = os.uname().machine
    if machine not in _SECCOMP:
        raise UserError(
            f"calls can't be caught on {machine}",
            f"on {' and '.join(_SECCOMP)} they can",
            FAILED,
        )
    sizes = ctypes.create_string_buffer(6)
    if _seccomp(_GET_NOTIF_SIZES, 0, sizes) != 0:
        raise _refused(ctypes.get_errno())
    if struct.unpack("=3H", sizes.raw)[0] > ROOM:
        raise UserError("this kernel's notifications are larger than is known here", "", FAILED)
    # A program at no address: the kernel looks at the flags before it looks for that.
    if _seccomp(_SET_MODE_FILTER, _FLAGS_WANTED, None) < 0 and ctypes.get_errno() != errno.EFAULT:
        raise _refused(ctypes.get_errno())


#: bytes for a notification: kernels may come to write more than sizeof(Notification)
ROOM = 256


def _seccomp(operation: int, flags: int, argument: object) -> int:
    number = _SECCOMP[os.uname().machine]
    arguments = (ctypes.c_long(operation), ctypes.c_long(flags), argument)
    return int(_libc.syscall(ctypes.c_long(number), *arguments))


_REFUSED = {
    errno.EACCES: (
        "without CAP_SYS_ADMIN the kernel takes a filter only from who gives up setuid programs",
        "run it as root, be it of a user namespace, or with --no-new-privs",
    ),
    errno.EBUSY: (
        "this process already runs under a seccomp filter with a supervisor, and only one may be",
        "another ovl-linkd exec does for all below it; a container's profile with notify must go",
    ),
    errno.EINVAL: (
        "this kernel can't ask about a call without a signal repeating it",
        "Linux 5.19 or later has SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ),
    errno.ENOSYS: (
        "seccomp(2) is not to be had here",
        "a kernel with CONFIG_SECCOMP_FILTER, and no sandbox around this that hides it",
    ),
}


def _refused(number: int) -> UserError:
    what, hint = _REFUSED.get(number, (f"no seccomp filter: {os.strerror(number)}", ""))
    return UserError(what, hint, FAILED)


# --- the listener ----------------------------------------------------------------------------


def wake_quickly(listener: int) -> None:
    """Have the kernel hand over to whoever waits at LISTENER on the spot, where it can."""
    _ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)  # an integer, not a pointer to one


def receive(listener: int, address: int) -> bool:
    """Wait for a notification, to be put at ADDRESS, where ROOM bytes are zero; whether one came.

    None comes if a signal arrives, or the caller was killed just then. Raises OSError, ENOTCONN
    where nobody is under the filter any more; before Linux 6.11 it goes on waiting then.
    """
    if _ioctl(listener, _RECV, address) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.ENOENT and is_over(listener):
        number = errno.ENOTCONN
    if number in (errno.EINTR, errno.ENOENT):
        return False
    raise OSError(number, os.strerror(number))


def is_over(listener: int) -> bool:
    """Whether nobody is under the filter any more."""
    poll = select.poll()
    poll.register(listener, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def is_valid(listener: int, id_: int) -> bool:
    """Whether the caller of the notification ID_ still waits for its answer."""
    return bool(_ioctl(listener, _ID_VALID, struct.pack("=Q", id_)) == 0)


def let_through(listener: int, id_: int) -> bool:
    """Have the kernel carry the call out as it stands now; False if nobody waits for that."""
    return _send(listener, _ANSWER.pack(id_, 0, 0, _CONTINUE))


def refuse(listener: int, id_: int, number: int) -> bool:
    """Have the call fail with errno NUMBER; False if nobody waits for that."""
    return _send(listener, _ANSWER.pack(id_, 0, -number, 0))


def _send(listener: int, answer: bytes) -> bool:
    """ENOENT: the caller is gone. EINPROGRESS: somebody else has answered."""
    return bool(_ioctl(listener, _SEND, answer) == 0)
