"""What a caller of mount(2) has in its memory, read as the kernel reads it; and written to.

A notification names a thread. Reads go by process_vm_readv(2), which keeps to the protection of
the caller's pages; what is written goes by /proc/TID/mem, which also reaches its private read-only
ones: options are often a constant of the program.
"""

import ctypes
import errno
import os
from typing import NamedTuple

from ovl_linkd.intercept import proc

_PAGE = os.sysconf("SC_PAGE_SIZE")
# A 64-bit ARM program may mark its pointers in the byte that the processor passes over.
_ADDRESSES = (1 << 56) - 1 if os.uname().machine == "aarch64" else (1 << 64) - 1
_MOST_PARTS = 64


class _Part(ctypes.Structure):
    """struct iovec"""

    base: int
    size: int
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True)
_readv = _libc.process_vm_readv
_readv.restype = ctypes.c_ssize_t
_readv.argtypes = (
    *(
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_ulong,
        ctypes.c_void_p,
        ctypes.c_ulong,
        ctypes.c_ulong,
    ),
)

_buffer = ctypes.create_string_buffer(_MOST_PARTS * _PAGE)
_here = _Part(ctypes.addressof(_buffer), 0)
_there = (_Part * _MOST_PARTS)()
_HERE, _THERE = ctypes.addressof(_here), ctypes.addressof(_there)


class Text(NamedTuple):
    """A text in another's memory: ``ended`` by a NUL, or by memory that can't be read."""

    text: bytes
    ended: bool


def read(tid: int, address: int, size: int) -> bytes:
    """The SIZE bytes at ADDRESS in the memory of thread TID, or as many as can be read.

    At most 64 pages' worth; empty also where the thread is gone. Raises PermissionError where it
    may not be looked into.
    """
    address &= _ADDRESSES
    first = min(size, _PAGE - address % _PAGE)
    _there[0].base, _there[0].size = address, first
    parts, done = 1, first
    # Up to what can't be read the kernel reads part by part, so that no part may cross a page.
    while done < size and parts < _MOST_PARTS:
        here = _there[parts]
        here.base, here.size = address + done, min(_PAGE, size - done)
        done += here.size
        parts += 1
    _here.size = done
    got = _readv(tid, _HERE, 1, _THERE, parts, 0)
    if got < 0 and ctypes.get_errno() == errno.EPERM:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    return ctypes.string_at(_buffer, got) if got > 0 else b""


def read_text(tid: int, address: int, most: int) -> Text:
    """The text at ADDRESS in the memory of thread TID: up to a NUL, or MOST bytes.

    Raises as read() does.
    """
    text = b""
    while len(text) < most:
        wanted = min(most - len(text), (_MOST_PARTS - 1) * _PAGE if text else _PAGE)
        more = read(tid, address + len(text), wanted)
        end = more.find(b"\0")
        if end >= 0:
            return Text(text + more[:end], True)
        text += more
        if len(more) < wanted:
            break
    return Text(text, False)


def open_to_write(tid: int) -> int:
    """A descriptor for write(). Raises OSError.

    It goes on being the same program's memory whatever the number TID comes to mean: whoever then
    finds the notification valid knows that it is the caller's.
    """
    return proc.open_of(tid, "mem", os.O_WRONLY)


def write(memory: int, address: int, text: bytes) -> bool:
    """Write TEXT at ADDRESS; False if not all of it could be written, none or a part of it."""
    address &= _ADDRESSES
    done = 0
    try:
        while done < len(text):
            written = os.pwrite(memory, text[done:], address + done)
            if written <= 0:
                return False
            done += written
    except OSError:  # EIO: a page that is shared and read-only, or none at all
        return False
    return True
