"""What /proc says of a thread, by its number in this PID namespace and in no other.

In another namespace's /proc the number is another thread's: its memory would be written to. So it
is looked at once, and from then on found by a descriptor, whatever is mounted over it.
"""

import os

from ovl_linkd.errors import UserError
from ovl_linkd.intercept.seccomp import FAILED

_found: list[int] = []  # a descriptor of /proc


def find() -> None:
    """Open /proc, for this process and all that it forks. Raises UserError, OSError."""
    directory = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        number = os.readlink("self", dir_fd=directory)
    except OSError:
        number = "nothing"
    if number != str(os.getpid()):
        os.close(directory)
        what = f"/proc is that of another PID namespace: process {os.getpid()} is {number} there"
        raise UserError(what, "unshare --mount-proc, or mount -t proc proc /proc", FAILED)
    _found[:] = [directory]


def open_of(tid: int | str, name: str, flags: int) -> int:
    """Open the file NAME of thread TID. Raises OSError."""
    return os.open(f"{tid}/{name}", flags | os.O_CLOEXEC, dir_fd=_found[0])


def link_of(tid: int, name: str) -> bytes:
    """Where the symlink NAME of thread TID leads, as this process is told. Raises OSError."""
    return os.fsencode(os.readlink(f"{tid}/{name}", dir_fd=_found[0]))


def read_of(tid: int | str, name: str) -> bytes:
    """What is in the file NAME of thread TID. Raises OSError."""
    with open(open_of(tid, name, os.O_RDONLY), "rb") as file:
        return file.read()
