"""What this kernel takes, tried out rather than read off a version: kernels get backports.

Each trial runs in a child with a mount namespace of its own, root's or a user's, on a fresh file
system there: nothing is mounted in the mount table of the machine. As with any mount, the kernel
may load the module of the overlay for it.
"""

import errno
import os
from collections.abc import Callable
from typing import NamedTuple

from ovl_linkd.overlay import mounting
from ovl_linkd.overlay.context import Context

# Where a file system may be mounted to work in; what it hides is seen by no other process.
_PLACES = ("/mnt", "/media", "/srv", "/opt", "/tmp", "/run")

Outcome = dict[str, bool | int | str | None]


class CantTry(Exception):
    """A trial could not be made here; the text says why."""


class Features(NamedTuple):
    """What the kernel's overlay takes through fsconfig(2).

    ``overlay``: whether two layers mount at all. ``one_by_one``: a layer a value, ``lowerdir+``.
    ``descriptors``: a layer as an open directory. ``value_limit``: the longest text, in bytes, that
    was taken as one value, at most 1,000.
    """

    overlay: bool
    one_by_one: bool
    descriptors: bool
    value_limit: int


def features() -> Features:
    """Try this kernel. Raises CantTry where no private mount namespace can be had."""
    outcome = privately(_try_all)
    return Features(
        overlay=bool(outcome["overlay"]),
        one_by_one=bool(outcome["one_by_one"]),
        descriptors=bool(outcome["descriptors"]),
        value_limit=int(outcome["value_limit"] or 0),
    )


def privately(trial: Callable[[], Outcome]) -> Outcome:
    """Run TRIAL in a child, in a private mount namespace, on an empty tmpfs; what it returns.

    It finds the directories ``a``, ``b`` (layers) and ``m`` (to mount on) where it works. It must
    have imported all that it needs. Raises CantTry, also for an OSError that TRIAL lets out.
    """
    import ctypes  # noqa: F401  the child may no longer find it: its place may be mounted over
    import json

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        outcome: Outcome
        try:
            _enter()
            outcome = trial()
        except OSError as error:
            outcome = {"error": str(error)}
        except BaseException as error:
            outcome = {"error": f"{type(error).__name__}: {error}"}
        try:
            os.write(writing, json.dumps(outcome).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    if not said:
        raise CantTry("the trial ended without an answer")
    answer: Outcome = json.loads(said)
    if "error" in answer:
        raise CantTry(str(answer["error"]))
    return answer


def _enter() -> None:
    """Leave the machine's mounts and work on an empty file system. Raises OSError."""
    if os.geteuid() == 0:
        try:
            mounting.private_mount_namespace()
        except PermissionError:
            mounting.private_user_namespace()  # root of a container, without its capabilities
    else:
        mounting.private_user_namespace()
    place = next(filter(os.path.isdir, _PLACES), "/")
    mounting.mount("ovl-linkd-trial", place, "tmpfs", mounting.MS_NODEV, b"mode=0755")
    os.chdir(place)
    for name in ("a", "b", "m"):
        os.mkdir(name)


def _try_all() -> Outcome:
    try:
        overlay = _creates((b"lowerdir", b"a:b"))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return {"overlay": False, "one_by_one": False, "descriptors": False, "value_limit": 0}
    return {
        "overlay": overlay,
        "one_by_one": _creates((b"lowerdir+", b"a"), (b"lowerdir+", b"b")),
        "descriptors": _creates_from_descriptors(),
        "value_limit": _longest_value(),
    }


def _creates(*settings: tuple[bytes, bytes]) -> bool:
    """Whether an overlay comes into being from SETTINGS; it is never mounted anywhere."""
    with _context() as context:
        try:
            for name, value in settings:
                context.set_string(name, value)
            context.create()
        except OSError:
            return False
    return True


def _creates_from_descriptors() -> bool:
    layers = [os.open(name, os.O_RDONLY | os.O_DIRECTORY) for name in ("a", "b")]
    try:
        with _context() as context:
            for layer in layers:
                context.set_directory(b"lowerdir+", layer)
            context.create()
    except OSError:
        return False
    finally:
        for layer in layers:
            os.close(layer)
    return True


def _longest_value() -> int:
    """The most bytes, of a few sizes that kernels are known for, that one value may have."""
    for size in (1000, 255):
        with _context() as context:
            try:
                # Slashes may be repeated at will: a path of any length to what is there.
                context.set_string(b"upperdir", b"a" + b"/" * (size - 1))
            except OSError:
                continue
        return size
    return 0


def _context() -> Context:
    try:
        return Context()
    except OSError as error:
        raise OSError(error.errno, f"fsopen(2) of an overlay: {error.strerror}") from None
