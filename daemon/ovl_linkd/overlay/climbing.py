"""Mounts an overlay by the first rung of the ladder that the kernel at hand takes.

No version is compared and nothing is remembered: kernels get backports, and a process may be moved
below a filter that forbids what worked a moment ago.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from ovl_linkd.overlay import diagnosis, ladder, line, mounting, refusals
from ovl_linkd.overlay.context import Context
from ovl_linkd.overlay.limits import Limits, of_this_kernel
from ovl_linkd.overlay.options import Options, layers_and_colons
from ovl_linkd.overlay.prefixes import Prefix
from ovl_linkd.overlay.shorten import plan

# What a kernel answers that doesn't know fsopen(2), `lowerdir+` or descriptors, or a filter does.
_UNKNOWN = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EBADF, errno.EOPNOTSUPP)
# In words: one that knows no lowerdir+ (legacy_parse_param in fs/fs_context.c, from 6.5 on
# fs/fs_parser.c), or no descriptors there.
_NOT_THIS_WAY = re.compile(
    r"^VFS: |^Unknown parameter '(lower|data)dir\+|^unrecognized mount option \"(lower|data)dir\+"
    r"|^Bad value for '((lower|data)dir\+|upperdir|workdir)'"
)
# What it answers where a short name is gone since it was looked at, or leads elsewhere.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES)


class CantMount(Exception):
    """Nothing was mounted: ``reason`` in a sentence, ``remedy``, or an empty text.

    ``errno``: the kernel's answer; None where it was not even asked.
    """

    def __init__(self, reason: str, remedy: str = "", number: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.errno = number


def climb(
    source: bytes,
    target: bytes,
    options: Options,
    flags: int,
    limits: Limits,
    links: Callable[[], Sequence[Prefix]] = tuple,
    lease: Callable[[list[bytes]], Sequence[Prefix]] = lambda _paths: (),
) -> ladder.Rung:
    """Mount an overlay of OPTIONS at TARGET; return the rung by which it was done.

    ``target``: an absolute path. ``flags``: MS_*, as for mount(2). ``links``, ``lease``: as for
    ladder.rungs(), which says in what order ways are tried. Raises CantMount. Not for threads: the
    working directory is another one for a moment.
    """
    if options.layers > limits.layers:
        raise CantMount(*refusals.of_layers(options.layers, limits.layers))
    beside = line.of_names(source, target)
    refused: list[OSError] = []
    for rung in ladder.rungs(options, limits, links, lease, beside):
        try:
            mount_by(rung, source, target, flags, limits)
        except OSError as error:
            # Taken as the mount point by diagnose(); it may be a layer that could not be opened.
            at = error.filename if error.filename == os.fsdecode(target) else None
            told = OSError(error.errno, os.strerror(error.errno or 0), at)
            known = diagnosis.diagnose(options.format(), told)
            if not known and not refused and error.errno == errno.EINVAL:
                # Asked before a farm is: no other way mends what the overlay itself refuses.
                known = _words(options)
            if known or not _worth_another(rung, error):
                raise _explained(options, error, known) from None
            refused.append(error)
        else:
            return rung
    raise _no_rung(options, limits, links, refused)


def mount_by(rung: ladder.Rung, source: bytes, target: bytes, flags: int, limits: Limits) -> None:
    """Mount an overlay at TARGET by this RUNG, whose settings may be new to the kernel.

    Raises OSError.
    """
    with _inside(rung.directory):
        if rung.options:
            mounting.mount_overlay(source, target, rung.options, flags, limits)
        else:
            _mount_one_by_one(rung.settings, source, target, flags, limits)


def _mount_one_by_one(
    settings: tuple[ladder.Setting, ...], source: bytes, target: bytes, flags: int, limits: Limits
) -> None:
    most = limits.fsconfig
    with Context() as context:
        context.set_flags(flags)
        if source:
            context.set_string(b"source", source[:most])
        shown = [(each.name, context.set(each, most)) for each in settings]
        if line.of_values(shown, line.of_names(source, target)) > limits.mountinfo:
            raise _LineTooLong(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        context.create()
        context.mount(target, flags)


@contextmanager
def _inside(directory: bytes | None) -> Iterator[None]:
    if directory is None:
        yield
        return
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchdir(before)  # who couldn't come back (EACCES) must not go
        os.chdir(directory)
        yield
    finally:
        with suppress(OSError):  # by now it may be mounted, and that is what counts
            os.fchdir(before)
        os.close(before)


class _LineTooLong(OSError):
    """Known only once a layer is open: mountinfo shows where it lies."""


def _worth_another(rung: ladder.Rung, error: OSError) -> bool:
    if rung.prefixes and error.errno in _GONE:
        return True
    return not rung.options and error.errno in _UNKNOWN


def _words(options: Options) -> str | None:
    """What the kernel says of OPTIONS, if that isn't that it doesn't know this way to give them.

    Then it is asked about the topmost layers: what is wrong with them, or with another option, is
    wrong with all.
    """
    words = diagnosis.kernels_words(options)
    if words is not None and _NOT_THIS_WAY.search(words):
        # Given one by one, layers have no other way.
        added = any(part.startswith((b"lowerdir+=", b"datadir+=")) for part in options.parts)
        if added and not words.startswith("Bad value"):
            return "lowerdir+ and datadir+ are not known to this kernel: they came with Linux 6.7"
        words = diagnosis.kernels_words(_topmost(options))
    if words == "empty lowerdir":  # which options.parse() lets by only between the colons of ``::``
        return "data-only layers are not known to this kernel: they came with Linux 6.5"
    return None if words is None or _NOT_THIS_WAY.search(words) else words


def _topmost(options: Options) -> Options:
    """OPTIONS with as many of the layers as fsconfig(2) takes in one value; at least two.

    The last of those that hold data only stays among them.
    """
    most, parts = of_this_kernel().fsconfig, []
    for part in options.parts:
        name, equals, value = part.partition(b"=")
        if name == b"lowerdir":
            tokens = layers_and_colons(value)
            while len(value) > most and len(tokens) > 3:
                del tokens[slice(-4, -2) if b"::" in tokens else slice(-2, None)]
                value = b"".join(tokens)
        parts.append(name + equals + value)
    return options._replace(parts=tuple(parts))


def _explained(options: Options, error: OSError, known: str | None) -> CantMount:
    """What a person is told of ERROR: what looking found, else the kernel's own words."""
    if known is None and error.errno != errno.EPERM:
        known = _words(options)
    remedy = ""
    if known is None:
        known = os.strerror(error.errno or 0)
        if error.errno == errno.EINVAL:
            remedy = "the kernel may have said why in its log: dmesg"
    if error.errno == errno.EPERM:
        root = os.geteuid() == 0
        remedy = "it takes CAP_SYS_ADMIN here" if root else "only root may mount; use sudo"
    return CantMount(known, remedy, error.errno)


def _no_rung(
    options: Options,
    limits: Limits,
    links: Callable[[], Sequence[Prefix]],
    refused: list[OSError],
) -> CantMount:
    """Why no rung was left: none was within the limits, or each was refused without a word."""
    tried = [error for error in refused if not isinstance(error, _LineTooLong)]
    if not tried:
        size = len(options.format())
        return CantMount(*refusals.of_line(size, limits.mountinfo))
    for error in tried:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EBADF, errno.EOPNOTSUPP):
            return _explained(options, error, None)
    # A kernel that takes all options at once, or not at all.
    made = plan(options, links(), limits)
    reason = made.reason or os.strerror(tried[0].errno or 0)
    return CantMount(reason, made.remedy or "", tried[0].errno)
