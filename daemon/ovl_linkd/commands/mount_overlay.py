"""``mount.overlay``: the helper that mount(8) starts for overlays, and a Podman ``mount_program``.

Started by daemon/mount-helper/mount.overlay, for what mount(8) can't carry itself, on whatever
/usr/bin/python3 there is: the standard library and our own files alone, and few of either. Exit
codes are those of mount(8).
"""

import errno
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ovl_linkd.errors import UserError
from ovl_linkd.formats import mount_flags
from ovl_linkd.overlay import calls, line, mounting, options
from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.text import printable

if TYPE_CHECKING:
    from ovl_linkd.overlay.prefixes import Prefix

_OK, _USAGE, _SYSTEM, _FAILED = 0, 1, 2, 32

_CALLS = """\
usage: mount.overlay SOURCE TARGET [-sfnv] [-N NAMESPACE] -o OPTIONS [-t overlay]
       mount.overlay -o OPTIONS TARGET"""
_ALL_IDS = [b"0", b"0", b"4294967295"]


class Call(NamedTuple):
    """How the helper was called; paths and options are bytes."""

    source: bytes = b""
    target: bytes = b""
    options: bytes = b""
    fake: bool = False
    verbose: bool = False
    namespace: bytes | None = None


def script() -> None:
    """What the shell starts: main(), then the end of the process."""
    code = main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        pass  # it is mounted, whether or not anybody reads that
    # Python's own code where it can't even start is 1 as well.
    os._exit(101 if code == _USAGE else code)


def main(words: Sequence[str]) -> int:
    """Mount as WORDS say, or say why not; the exit code."""
    if list(words) in (["--version"], ["-V"]):  # Podman asks, and shows it in `podman info`
        from ovl_linkd import __version__

        print(f"mount.overlay (ovl-linkd) {__version__}")
        return _OK
    try:
        call = read(list(map(os.fsencode, words)))
        _run(call)
    except UserError as error:
        usage = error.hint == _CALLS
        hint = f"; {error.hint}" if error.hint and not usage else ""
        print(f"mount.overlay: {printable(error.what + hint)}", file=sys.stderr)
        if usage:
            print(_CALLS, file=sys.stderr)
        return error.code
    except OSError as error:
        where = f": {os.fsdecode(error.filename)}" if error.filename else ""
        print(f"mount.overlay: {error.strerror}{printable(where)}", file=sys.stderr)
        return _SYSTEM
    return _OK


def read(words: list[bytes]) -> Call:
    """Read the call that WORDS make, in mount(8)'s form or in Podman's. Raises UserError."""
    call = Call()
    operands: list[bytes] = []
    left = iter(words)
    for word in left:
        if word in (b"-o", b"-N", b"-t"):
            value = next(left, None)
            if value is None:
                raise UserError(f"{os.fsdecode(word)} needs a value", _CALLS, _USAGE)
            call = _with_value(call, word, value)
        elif word[:1] == b"-" and len(word) > 1:
            if word.lstrip(b"-sfnv") or word == b"--":
                raise UserError(f"unknown option {os.fsdecode(word)}", _CALLS, _USAGE)
            call = call._replace(
                fake=call.fake or b"f" in word, verbose=call.verbose or b"v" in word
            )
        else:
            operands.append(word)
    match operands:
        case [target]:
            return call._replace(source=b"overlay", target=target)
        case [source, target]:
            return call._replace(source=source, target=target)
    raise UserError("a source and a target are needed, or a target alone", _CALLS, _USAGE)


def _with_value(call: Call, word: bytes, value: bytes) -> Call:
    if word == b"-N":
        return call._replace(namespace=value)
    if word == b"-o":
        return call._replace(options=b",".join(filter(None, (call.options, value))))
    if value != b"overlay":
        what = f"type {os.fsdecode(value)}: the kernel's overlay has no subtypes"
        raise UserError(what, "leave -t away", _USAGE)
    return call


def _run(call: Call) -> None:
    if not call.target:  # as a relative path it would be the working directory
        raise UserError("an empty target: there is no directory to mount on", "", _FAILED)
    asked = mount_flags.take_out(_parsed(call.options))
    if asked.other:
        _by_mount(call, asked.other)
    target = os.path.join(b"" if call.target[:1] == b"/" else os.getcwdb(), call.target)
    if call.namespace is not None:
        _enter(call.namespace)
    if call.fake:
        return
    if asked.remount:
        _remount(call, asked.flags, target)
        return
    given = _for_this_user_namespace(asked.options)
    how = "as they are given"
    if not _plainly(call, target, given, asked.flags):
        rung = _by_any_means(call, target, given, asked.flags)
        size, most = len(given.format()), of_this_kernel().mount
        how = f"by {rung}: {size:,} bytes of options, and mount(2) takes {most:,}"
    if call.verbose:
        shown, where = os.fsdecode(call.source), os.fsdecode(call.target)
        text = f"{shown} mounted on {where}: {given.layers} layers, {how}"
        print(f"mount.overlay: {printable(text)}")


def _plainly(call: Call, target: bytes, given: options.Options, flags: int) -> bool:
    """Mount as it stands if that fits: what most mounts are, before half of us is imported."""
    limits, text = of_this_kernel(), given.format()
    size = len(text)
    long_line = 4 * size + line.of_names(call.source, target) > limits.mountinfo
    if given.layers > limits.layers or size > limits.mount or long_line:
        return False
    try:
        mounting.mount_overlay(call.source, target, text, flags, limits)
    except OSError:
        return False  # tried once more, and then explained
    return True


def _by_any_means(call: Call, target: bytes, given: options.Options, flags: int) -> str:
    """Mount by the best rung of the ladder that the kernel takes; its name. Raises UserError."""
    from ovl_linkd.overlay import climbing

    names = _Names()
    # In another mount namespace, names mean something else.
    known = (names.links, names.lease) if call.namespace is None else ()
    try:
        limits = of_this_kernel()
        return climbing.climb(call.source, target, given, flags, limits, *known).strategy
    except climbing.CantMount as error:
        more = names.refusal
        reason = error.reason + (f"; {more.what}" if more else "")
        raise _failure(call, error.errno, reason, more.hint if more else error.remedy) from None


def _parsed(text: bytes) -> options.Options:
    try:
        return options.parse(text)
    except options.Malformed as error:
        raise UserError(error.what, error.hint, _FAILED) from None


def _by_mount(call: Call, other: bytes) -> None:
    """Become mount(8), which looks for no helper then: nothing of this is an overlay's business."""
    more = [b"-v"] * call.verbose + [b"-f"] * call.fake
    more += [b"-N", call.namespace] if call.namespace is not None else []
    try:
        os.execvp(b"mount", [b"mount", b"-i", *more, b"-o", call.options, call.source, call.target])
    except OSError as error:
        what = f"{os.fsdecode(other)} is for mount(8), which can't be started: {error.strerror}"
        raise UserError(what, "", _SYSTEM) from None


def _enter(namespace: bytes) -> None:
    """Go where mount(8)'s -N says. What is imported, or to be loaded, lies in the old one."""
    from ovl_linkd.overlay import climbing  # noqa: F401  while it can be found

    calls.libc()
    path = b"/proc/%b/ns/mnt" % namespace if namespace.isdigit() else namespace
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            mounting.join_mount_namespace(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        shown = os.fsdecode(path) or "''"
        what = f"no way into the mount namespace {shown}: {error.strerror}"
        raise UserError(what, "", _SYSTEM) from None


def _remount(call: Call, flags: int, target: bytes) -> None:
    """Change flags, by mount(2): by that of the file system alone, it ignores other options.

    fsconfig(2) doesn't, and mount(8) from 2.39 on can remount no overlay for it (ovl_parse_param in
    fs/overlayfs/params.c: "No changes allowed in reconfigure").
    """
    try:
        mounting.mount(call.source, target, b"overlay", flags)
    except OSError as error:
        reason = _REMOUNT.get(error.errno or 0) or os.strerror(error.errno or 0)
        raise _failure(call, error.errno, reason, "") from None


_REMOUNT = {
    errno.EINVAL: "nothing is mounted there to be remounted",
    errno.EROFS: "it can't be made writable: it has no upperdir, or one that is read-only",
    errno.EBUSY: "it can't be made read-only: files are open for writing",
}


def _for_this_user_namespace(given: options.Options) -> options.Options:
    """GIVEN as the overlay needs it for a mount from where we are. Raises UserError."""
    parts = []
    for part in given.parts:
        name, _, value = part.partition(b"=")
        if name in (b"uidmapping", b"gidmapping"):
            what = f"{os.fsdecode(name)}: the kernel's overlay maps no ids"
            raise UserError(what, "fuse-overlayfs does, or map the ids of the layers", _FAILED)
        if name == b"xattr_permissions":
            if value == b"0":
                continue
            what = "xattr_permissions: the kernel's overlay takes permissions from the files alone"
            raise UserError(what, "leave it away, or use fuse-overlayfs", _FAILED)
        parts.append(part)
    # The overlay may not write trusted.overlay.* there; without any attribute of its own, a
    # directory that was removed comes back as an error.
    if _in_a_user_namespace() and b"userxattr" not in parts:
        parts.append(b"userxattr")
    return given._replace(parts=tuple(parts))


def _in_a_user_namespace() -> bool:
    try:
        with open("/proc/self/uid_map", "rb") as file:
            return file.readline().split() != _ALL_IDS
    except OSError:
        return False


class _Names:
    """The short names that the daemon keeps, looked up when they are first needed."""

    def __init__(self) -> None:
        self.refusal: UserError | None = None
        """Why the farm gave none, if it was asked and should have."""

    def links(self) -> "list[Prefix]":
        """The links that lead to their targets now."""
        from ovl_linkd import published
        from ovl_linkd.links.link import observe
        from ovl_linkd.overlay.prefixes import Prefix

        known = published.read()
        return [
            Prefix(link.name, os.fsencode(link.target), os.fsencode(link.path))
            for link in (known.links if known else ())
            if observe(link).state == "ok"
        ]

    def lease(self, paths: list[bytes]) -> "Sequence[Prefix]":
        """A name from the farm for each of PATHS; none without a farm that gives them."""
        from ovl_linkd import leasing, published

        known = published.read()
        try:
            return leasing.lease(paths, known) if known else ()
        except UserError as error:
            self.refusal = error
            return ()


def _failure(call: Call, number: int | None, reason: str, remedy: str) -> UserError:
    code = _FAILED
    if number == errno.EPERM:
        code = _USAGE
    elif number in (errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        code = _SYSTEM
    return UserError(f"{os.fsdecode(call.target)}: {reason}", remedy, code)
