"""The way into the kernel: the C library's calls, and its errors as OSError.

ctypes costs a short-lived command more than all the rest of what it runs, so it is imported by the
first call that needs it.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

Path = str | bytes

_loaded: "list[ctypes.CDLL]" = []


def libc() -> "ctypes.CDLL":
    """The C library, whose calls leave their errno for check()."""
    if not _loaded:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        library.syscall.restype = ctypes.c_long
        _loaded.append(library)
    return _loaded[0]


def unsigned_long(value: int) -> "ctypes.c_ulong":
    """VALUE for a call that takes an unsigned long; a plain int goes as 32 bits."""
    import ctypes

    return ctypes.c_ulong(value)


def text(value: Path) -> bytes:
    """The bytes the kernel reads. C strings end at a NUL: past one, all would be lost silently."""
    encoded = os.fsencode(value)
    if b"\0" in encoded:
        raise ValueError("a NUL byte: the kernel reads only what stands before it")
    return encoded


def check(result: int, path: Path | None = None) -> int:
    """RESULT, what a call returned, if it did not fail. Raises OSError about PATH if it did."""
    if result >= 0:
        return result
    import ctypes

    number = ctypes.get_errno()
    if path is None:
        raise OSError(number, os.strerror(number))
    raise OSError(number, os.strerror(number), os.fsdecode(path))


def system_call(number: int, *arguments: int | bytes | None, path: Path | None = None) -> int:
    """Make a system call that the C library has no function for. Raises OSError about PATH."""
    library = libc()
    import ctypes

    # A plain int goes as 32 bits, and the rest of its register is anything.
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return check(library.syscall(ctypes.c_long(number), *words), path)
