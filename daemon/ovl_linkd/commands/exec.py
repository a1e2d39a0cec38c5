"""COMMAND runs as this very process: with its id, signals, descriptors and exit code, so that it
may stand in front of a service's ExecStart=. Its calls of mount(2), and those of all that it
starts, for overlays whose options don't fit are caught: paths in them are replaced by short ones,
and the call goes on with the caller's own rights. What can't be made to fit fails with EINVAL, and
the journal says why.

Exit codes: COMMAND's; 127 it was not found, 126 it could not be executed, 125 it could not be put
under the filter.
"""

import errno
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from ovl_linkd.errors import UserError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ovl_linkd.published import Published

FAILED = 125
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments of ``ovl-linkd exec``."""
    from argparse import REMAINDER

    parser.add_argument(
        "--verbose",
        action="store_true",
        help="tell each decision on standard error, as long as COMMAND runs",
    )
    parser.add_argument(
        "--no-new-privs",
        action="store_true",
        help="give up setuid programs below COMMAND: what a user without CAP_SYS_ADMIN must do",
    )
    parser.add_argument("command", nargs=REMAINDER, metavar="COMMAND", help="and its arguments")


def run(args: "Namespace") -> int:
    """Run ``ovl-linkd exec``: become COMMAND. Raises UserError where that can't be."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise UserError("no COMMAND to run", "ovl-linkd exec -- COMMAND [ARGUMENT...]", 2)
    from ovl_linkd.intercept import detach, manager
    from ovl_linkd.intercept.names import KnownNames
    from ovl_linkd.intercept.supervisor import supervise

    names = KnownNames(_known(args.config), follow=args.config is None)
    stderr = 2 if args.verbose else None
    pid, unit = os.getpid(), manager.unit_of_this_process()
    ignores_sigpipe = manager.ignores_sigpipe(unit)
    detach.put_under_filter(
        lambda listener, begin: supervise(listener, begin, command, pid, names, stderr),
        stderr,
        args.no_new_privs,
        unit,
    )
    _become(command, ignores_sigpipe)


def _known(config_file: str | None) -> "Published":
    """The links to begin with. What works without us must not fail for a faulty configuration,
    unless that was named: as soon as the daemon has links, they are used."""
    from ovl_linkd import published

    try:
        return published.known(config_file)
    except UserError as error:
        if config_file is not None:
            raise UserError(error.what, error.hint, FAILED) from None
        print(f"ovl-linkd exec: {error.what}; going on without links", file=sys.stderr)
        return published.Published((), "", [])


def _become(command: list[str], ignores_sigpipe: bool) -> NoReturn:
    """Execute COMMAND as a shell would. Raises UserError."""
    environment = _environment() | {b"LIBMOUNT_FORCE_MOUNT2": b"always"}
    import signal

    # Python ignores them, and what is ignored stays so.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if not ignores_sigpipe:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    denied = None
    for path in _places(command[0], environment):
        try:
            _execute(path, command, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            denied = denied or error
    if denied:
        raise UserError(f"{denied.strerror}: {denied.filename}", "", _NOT_EXECUTABLE)
    raise UserError(f"not found: {command[0] or '(an empty name)'}", "", _NOT_FOUND)


def _places(name: str, environment: dict[bytes, bytes]) -> list[str]:
    """Where execvp(3) looks for NAME."""
    if not name:
        return []
    if "/" in name:
        return [name]
    path = os.fsdecode(environment.get(b"PATH", os.fsencode(os.defpath)))
    return [os.path.join(directory, name) for directory in path.split(":")]


def _execute(path: str, command: list[str], environment: dict[bytes, bytes]) -> None:
    """Execute PATH; what the kernel doesn't know how to is a script. Raises OSError."""
    try:
        os.execve(path, command, environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    os.execve("/bin/sh", ["sh", path, *command[1:]], environment)


def _environment() -> dict[bytes, bytes]:
    """The environment that was given: Python may have added an LC_CTYPE of its own (PEP 538).

    A name may begin with "=", but can't be empty: os.execve() would not take that.
    """
    try:
        with open("/proc/self/environ", "rb") as file:
            given = [each for each in file.read().split(b"\0") if each]
    except OSError:
        return dict(os.environb)
    pairs = [(each[:1], *each[1:].partition(b"=")) for each in given]
    return {first + rest: value for first, rest, _, value in pairs}
