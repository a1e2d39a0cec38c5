"""Why the kernel refused an overlay: mount(2) answers with a number, and dmesg is read by few."""

import errno
import os
import stat

from ovl_linkd.overlay import limits as _limits
from ovl_linkd.overlay import options as _options
from ovl_linkd.overlay.context import Context
from ovl_linkd.overlay.ladder import settings, settings_as_given
from ovl_linkd.overlay.prefixes import unescape


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
    if error.errno == errno.ELOOP:
        return _twice(directories) or _nested(directories)
    return _unfit(parsed, dict(directories)) if error.errno == errno.EINVAL else None


_KNOWABLE = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG),
)


def kernels_words(options: _options.Options) -> str | None:
    """What the kernel says of OPTIONS, which it refused; None where it says nothing.

    It is asked once more, by a context that is never mounted: that has a log of its own. Much of
    what the overlay says goes to the kernel's log alone, which all who mount write to: what is
    said there twice, when we ask twice, is ours.
    """
    try:
        if said := _asked_again(options):
            return said[0]
        with open("/dev/kmsg", "rb", buffering=0, opener=_to_look) as log:
            heard = [_overheard(log.fileno(), options) for _ in range(2)]
    except OSError:
        return None
    both = [message for message in heard[0] if message in heard[1]]
    return both[-1] if both else None


def _to_look(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _asked_again(options: _options.Options) -> list[str]:
    most = _limits.of_this_kernel().fsconfig
    # Every kernel knows lowerdir=, not every one the spelling that a longer list needs.
    values = settings_as_given(options)
    if any(len(each.value or b"") > most for each in values):
        values = settings(options)
    with Context() as context:
        try:
            for setting in values:
                context.set(setting, most)
            context.create()
        except OSError:
            return context.said()
    return []


def _overheard(log: int, options: _options.Options) -> list[str]:
    """What overlays complain of in the kernel's log while OPTIONS are asked for."""
    os.lseek(log, 0, os.SEEK_END)
    _asked_again(options)
    heard: list[str] = []
    while True:
        try:
            # "3,1021,712716073,-;overlayfs: missing 'workdir'", of which 3 is that of an error.
            head, _, message = os.read(log, 8192).partition(b";")
        except OSError:
            return heard  # nothing more, or overrun by a flood
        level = head.split(b",")[0]
        if message.startswith(b"overlayfs: ") and level.isdigit() and int(level) & 7 <= 3:
            line = message.split(b"\n")[0]
            heard.append(os.fsdecode(line.removeprefix(b"overlayfs: ")))


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


def _twice(directories: list[tuple[str, bytes]]) -> str | None:
    """The first two of them that are one directory, by whatever names."""
    seen: dict[tuple[int, int], str] = {}
    for what, path in directories:
        status = os.stat(path)
        there = seen.setdefault((status.st_dev, status.st_ino), what)
        if there != what:
            return f"{there} and {what} are the same directory: {os.fsdecode(path)}"
    return None


def _nested(directories: list[tuple[str, bytes]]) -> str | None:
    """The first of them that lies inside another, of which the kernel doesn't say which it is."""
    real = {os.path.realpath(path): what for what, path in directories}
    for path, what in real.items():
        above = path
        while above != (above := os.path.dirname(above)):
            if above in real:
                return f"{what} lies inside {real[above]}: {os.fsdecode(path)}"
    return None


def _unfit(parsed: _options.Options, directories: dict[str, bytes]) -> str | None:
    """What EINVAL means where every directory is there (fs/overlayfs/super.c, params.c)."""
    most = _limits.of_this_kernel().layers
    if parsed.layers > most:
        return f"{parsed.layers} lower layers; the kernel takes {most}"
    upper, work = directories.get("upperdir"), directories.get("workdir")
    if upper is not None and work is None:
        return "an upperdir needs a workdir"
    if upper is None and parsed.layers == 1:
        return "one lower layer and no upperdir: at least two layers are needed"
    if upper is not None and work is not None:
        if os.stat(upper).st_dev != os.stat(work).st_dev:
            return "upperdir and workdir are on different file systems"
        if os.statvfs(upper).f_flag & os.ST_RDONLY:
            return f"the file system of upperdir is read-only: {os.fsdecode(upper)}"
    return None
