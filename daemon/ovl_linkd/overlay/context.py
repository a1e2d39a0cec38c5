"""An overlay in the making, one value at a time: fsopen(2), fsconfig(2), fsmount(2), move_mount(2).

It knows no limit but that of one value, fsconfig's 255 bytes, and says in words what it refuses.
"""

import os
from types import TracebackType

from ovl_linkd.overlay import mounting
from ovl_linkd.overlay.calls import Path, system_call, text
from ovl_linkd.overlay.ladder import Setting

# <linux/mount.h>; the numbers of the calls are the same on every architecture that Debian has.
_MOVE_MOUNT = 429
_FSOPEN = 430
_FSCONFIG = 431
_FSMOUNT = 432
_CLOEXEC = 1  # FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC
_SET_FLAG = 0
_SET_STRING = 1
_SET_FD = 5
_CMD_CREATE = 6
_AT_FDCWD = -100
_MOVE_MOUNT_F_EMPTY_PATH = 4

# What mount(2) takes as one of its flags belongs either to the mount or to the file system.
_ATTRIBUTES = {
    mounting.MS_RDONLY: 0x1,
    mounting.MS_NOSUID: 0x2,
    mounting.MS_NODEV: 0x4,
    mounting.MS_NOEXEC: 0x8,
    mounting.MS_NOATIME: 0x10,
    mounting.MS_STRICTATIME: 0x20,
    mounting.MS_NODIRATIME: 0x80,
    mounting.MS_NOSYMFOLLOW: 0x200000,
}
_OF_FILE_SYSTEM = {
    mounting.MS_RDONLY: b"ro",
    mounting.MS_SYNCHRONOUS: b"sync",
    mounting.MS_MANDLOCK: b"mand",
    mounting.MS_DIRSYNC: b"dirsync",
    mounting.MS_LAZYTIME: b"lazytime",
}


class Context:
    """What fsopen(2) returns for an overlay; to be closed. Every method raises OSError."""

    def __init__(self) -> None:
        self._descriptor = system_call(_FSOPEN, b"overlay", _CLOEXEC)

    def __enter__(self) -> "Context":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it; what was mounted stays."""
        os.close(self._descriptor)

    def set(self, setting: Setting, most: int) -> bytes:
        """Give SETTING, a directory of more than MOST bytes open; what mountinfo will show."""
        if setting.value is None:
            self.set_flag(setting.name)
            return b""
        if setting.path is None or len(setting.value) <= most:
            self.set_string(setting.name, setting.value)
            return setting.value
        directory = _opened(setting.path)
        try:
            self.set_directory(setting.name, directory)
            return _shown(directory, setting.path)
        finally:
            os.close(directory)

    def set_flag(self, name: bytes) -> None:
        """Give an option that has no value."""
        self._configure(_SET_FLAG, name)

    def set_string(self, name: bytes, value: bytes) -> None:
        """Give an option its value, of at most 255 bytes; EINVAL, and no word why, past them."""
        self._configure(_SET_STRING, name, text(value))

    def set_directory(self, name: bytes, descriptor: int) -> None:
        """Give an option an open directory as its value; the caller may close it then.

        EINVAL before Linux 6.13, EBADF there for one that was opened with O_PATH.
        """
        self._configure(_SET_FD, name, None, descriptor)

    def set_flags(self, flags: int) -> None:
        """Give what the MS_* of FLAGS say of the file system; mount() does what they say of it."""
        for bit, name in _OF_FILE_SYSTEM.items():
            if flags & bit:
                self.set_flag(name)

    def create(self) -> None:
        """Make the file system of what was set."""
        self._configure(_CMD_CREATE)

    def mount(self, target: Path, flags: int = 0) -> None:
        """Mount what was created at TARGET, FLAGS as for mount(2)."""
        if flags & mounting.MS_STRICTATIME:
            flags &= ~mounting.MS_NOATIME  # as mount(2) has it; here it would be EINVAL
        attributes = sum(value for bit, value in _ATTRIBUTES.items() if flags & bit)
        mount = system_call(_FSMOUNT, self._descriptor, _CLOEXEC, attributes)
        try:
            where = text(target)
            how = _MOVE_MOUNT_F_EMPTY_PATH
            system_call(_MOVE_MOUNT, mount, b"", _AT_FDCWD, where, how, path=target)
        finally:
            os.close(mount)

    def said(self) -> list[str]:
        """What the kernel has to say since it was last asked: complaints, by its own words."""
        found: list[str] = []
        while True:
            try:
                # One message a read(2), "e overlay: Unknown parameter 'x'", ENODATA after the last.
                message = os.read(self._descriptor, 4096)
            except OSError:
                return found
            if not message:
                return found
            found.append(os.fsdecode(message).strip().removeprefix("e ").removeprefix("overlay: "))

    def _configure(
        self, command: int, name: bytes | None = None, value: bytes | None = None, aux: int = 0
    ) -> None:
        system_call(_FSCONFIG, self._descriptor, command, name, value, aux)


def _opened(path: bytes) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        # To be walked through is enough for a layer; but not every kernel takes such a descriptor.
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _shown(directory: int, path: bytes) -> bytes:
    """What mountinfo shows of DIRECTORY: where it lies, whatever links lead there by PATH."""
    try:
        return os.readlink(b"/proc/self/fd/%d" % directory)
    except OSError:
        return path  # there is no /proc
