"""A file of ours that is replaced as a whole: whoever reads it sees the old text or the new one.

in_place.py is for files that are somebody else's.
"""

import os
import stat


def content(path: str) -> str | None:
    """What PATH says, the empty string for a mask (a symlink to /dev/null); None if missing.

    Raises OSError.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return "" if os.path.islink(path) else None


def replace(path: str, text: str, durable: bool = False) -> None:
    """Put TEXT at PATH as one (rename(2)), readable by everybody; ``durable`` outlives a crash.

    The directory may be another's, who must not be able to have this process write elsewhere:
    the new file is made, never opened. Its name has an ending that nobody collects. Raises
    OSError, and leaves what was there, and nothing else; or the new text, where no more than that
    it outlives a crash failed.
    """
    spare = f"{path}.new"
    _clear(spare)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(spare, flags, 0o644)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)
            file.write(os.fsencode(text))
            file.flush()
            if durable:
                os.fsync(descriptor)
        os.rename(spare, path)
    except OSError:
        _clear(spare)
        raise
    if durable:
        sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Have the names in the directory PATH outlive a crash, also new ones (fsync(2)).

    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clear(spare: str) -> None:
    """Remove what a run that was killed left; anything but a file or a symlink is not ours."""
    try:
        mode = os.lstat(spare).st_mode
    except OSError:
        return
    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        os.unlink(spare)
