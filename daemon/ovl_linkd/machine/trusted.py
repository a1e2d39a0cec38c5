"""Files that somebody else may have had a hand in, read without being held up or misled."""

import os
import stat

#: bytes; no configuration is longer
MOST = 1 << 20


def read(file: str) -> bytes:
    """What FILE holds, if only root, or this process' user, may have written it.

    Raises OSError, and ValueError for what is no such file: a FIFO, a device, one that others may
    write, one that is too long.
    """
    # A FIFO would hold up open(2), and to open some devices already does something.
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise ValueError("it is not a regular file")
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        if fault := _fault(os.fstat(descriptor)):
            raise ValueError(fault)
        content = stream.read(MOST + 1)
    if len(content) > MOST:
        raise ValueError(f"it is longer than {MOST:,} bytes")
    return content


def _fault(status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to user {status.st_uid}, not to root"
    others = stat.S_IWOTH | (stat.S_IWGRP if status.st_gid else 0)
    return "others than root may write it" if status.st_mode & others else ""
