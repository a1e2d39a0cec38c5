"""It runs in namespaces of its own, as root or in a user namespace: nothing on this machine is
touched, and all of it ends with the demo, even if it is killed."""

import errno
import os
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import NoReturn

from ovl_linkd.errors import UserError

# From where no page of 4,096 bytes holds the long paths any more to what it holds of short ones.
_FEWEST, _MOST = 53, 200


def arguments(parser: ArgumentParser) -> None:
    """The arguments of `ovl-linkd demo`."""
    parser.add_argument(
        "--layers",
        type=_count,
        default=128,
        metavar="N",
        help=f"how many lower layers the image has, {_FEWEST} to {_MOST} (default: 128)",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not _FEWEST <= int(text) <= _MOST:
        raise ArgumentTypeError(f"{text!r} is not a number from {_FEWEST} to {_MOST}")
    return int(text)


def run(options: Namespace) -> int:
    """Tell the story in a child that is the first process of new namespaces.

    When that process ends, however it ends, the kernel kills everything in its PID namespace, and
    the mounts go with the last of them. Raises UserError where no such namespaces can be had, or
    where the story didn't go as it should.
    """
    _unshare()
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_the_first_process(options.layers, writing)
    os.close(writing)
    try:
        with open(reading, encoding="utf-8", errors="surrogateescape") as pipe:
            failure = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    if failure:
        what, _, hint = failure.partition("\0")
        raise UserError(what, hint)
    if status < 0:
        raise UserError(f"it was ended by {signal.Signals(-status).name}")
    return status


def _unshare() -> None:
    """Have the next child be the first of a PID namespace, with the right to mount in one."""
    from ovl_linkd.overlay import mounting

    try:
        mounting.unshare(mounting.CLONE_NEWPID)
    except PermissionError:
        try:
            mounting.private_user_namespace(mounting.CLONE_NEWPID)
        except OSError as error:
            raise _no_right_to_mount(error) from None


def _no_right_to_mount(error: OSError) -> UserError:
    if error.errno == errno.ENODEV:
        what = "this kernel has no overlay file system, or its module is not loaded"
        return UserError(what, "sudo modprobe overlay")
    if os.geteuid() == 0:
        hint = "a container needs to be privileged for it; a virtual machine serves as well"
    else:
        hint = "run it as root: sudo ovl-linkd demo"
    reason = error.strerror
    if error.errno == errno.ENOSPC:  # user_namespaces(7)
        reason = "user.max_user_namespaces allows no more of them"
    return UserError(f"may not mount here, and user namespaces don't help: {reason}", hint)


def _be_the_first_process(layers: int, failure: int) -> NoReturn:
    """Tell the story; write what went wrong, WHAT and HINT around a NUL, to FAILURE."""
    from ovl_linkd.commands import demo_world

    code = 1
    try:
        demo_world.die_with_parent(failure)
        _tell(layers)
        code = 0
    except UserError as error:
        text = f"{error.what}\0{error.hint}"
        os.write(failure, text.encode("utf-8", "surrogateescape"))
    except BrokenPipeError:
        pass  # who reads it has seen enough
    except OSError as error:
        os.write(failure, f"{error}\0".encode("utf-8", "surrogateescape"))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        # Not sys.exit(): what the parent would do on its way out must not be done twice.
        os._exit(code)


def _tell(layers: int) -> None:
    from ovl_linkd.commands import demo_story, demo_world

    try:
        demo_world.enter()
    except OSError as error:
        raise _no_right_to_mount(error) from None
    demo_story.tell(layers)
