"""A bundle whose overlays are too long, made into one whose are not, beside it.

The changed config.json lies in a directory of its own within the bundle, so that whoever removes
the bundle removes it, too. The real runtime is told that this directory is the bundle: runc has no
option for another config.json, reads it again for `runc exec`, and shows the directory in `runc
state` and to hooks. So there they find what they expect: the config.json that was used, and beside
it, by symlinks, everything that the bundle holds. crun takes the file by its --config, and keeps
the bundle.

A mount namespace in which the changed file lies over the other one would be seen by nobody; but the
container's mounts are made from it, and with it either their propagation to the host is cut, or the
host sees the changed file.
"""

import os
from contextlib import suppress

from ovl_linkd.errors import UserError
from ovl_linkd.formats import json_text, oci
from ovl_linkd.formats.json_text import OBJECT, STRING, Ambiguous, Value
from ovl_linkd.formats.spelling import MOST_JSON, Edit, apply
from ovl_linkd.formats.table import FORMATS
from ovl_linkd.overlay import limits
from ovl_linkd.overlay.options import Malformed
from ovl_linkd.overlay.shorten import NEEDED

#: the directory within a bundle
NAME = ".ovl-linkd"
CONFIG = "config.json"
_ACL = "system.posix_acl_access"


def shortened(text: bytes) -> bytes | None:
    """Return the config.json TEXT as it can be mounted; None if it can as it is.

    And None where it is no config.json: the runtime has its own words for that. Raises UserError
    where options are too long and can't be made to fit.
    """
    if not _is_too_long(text):
        return None
    from ovl_linkd import published, shortening

    known = published.known(None)
    return shortening.rewritten(text, FORMATS["oci"], NEEDED, known.links, known).text


def _is_too_long(text: bytes) -> bool:
    """Whether the config.json TEXT has an overlay that the runtime would not get mounted.

    runc pays no heed to what follows the JSON: neither does this, or it would miss the overlay.
    """
    if len(text) > MOST_JSON:
        what = f"{CONFIG} is longer than {MOST_JSON:,} bytes"
        raise UserError(what, "what is in it can't be told; take out what it doesn't need")
    try:
        overlays = oci.overlays(json_text.first(text))
    except Ambiguous as error:
        raise UserError(f"{CONFIG}: {error.what}", error.hint) from None
    except Malformed:
        return False
    return any(len(each.joined) + each.added > limits.of_this_kernel().mount for each in overlays)


def beside(bundle: str, text: bytes, like: str) -> str:
    """Make the directory within BUNDLE whose config.json is TEXT; return its absolute path.

    Of other users those may read it who may read the file LIKE. Raises UserError where it can't be
    made, and where somebody else could change it.
    """
    real = os.path.realpath(bundle)
    path = os.path.join(real, NAME)
    try:
        with suppress(FileExistsError):  # of another container of this bundle, or of the one before
            os.mkdir(path, 0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _refuse_unless_ours(path, os.fstat(descriptor))
            # Who may look into the bundle, a hook or an engine's own user, may look into this.
            _share(descriptor, real, 0o755)
            _put(descriptor, text, like)
            _link(real, descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        what = f"{path}: {error.strerror}"
        raise UserError(what, f"see why it can't be made, or shorten {CONFIG} beforehand") from None
    return path


def relocated(text: bytes, bundle: str) -> bytes:
    """Return the config.json TEXT as it reads from another directory than BUNDLE.

    The root and what is bound are the paths that a runtime takes from the bundle. runc refuses a
    root that is a symlink. Raises UserError.
    """
    try:
        return apply(text, _relocating(json_text.read(text), bundle))
    except Malformed as error:
        raise UserError(f"{CONFIG}: {error.what}", error.hint) from None


def _relocating(config: Value, bundle: str) -> list[Edit]:
    real = os.fsencode(os.path.realpath(bundle))
    edits: list[Edit] = []
    root = config.expect(OBJECT, "config.json").get("root")
    if root is not None:
        edits += _absolute(root.expect(OBJECT, "root").get("path"), real)
    mounts = config.get("mounts")
    for mount in mounts.items if mounts else ():
        options = mount.get("options")
        given = options.items if options else ()
        if any(option.says(b"bind") or option.says(b"rbind") for option in given):
            edits += _absolute(mount.get("source"), real)
    return edits


def _absolute(path: Value | None, directory: bytes) -> list[Edit]:
    if path is None or path.kind != STRING or path.string().value.startswith(b"/"):
        return []
    try:
        directory.decode()
    except UnicodeDecodeError:
        hint = "move the bundle"
        raise Malformed("no JSON can hold the path of the bundle: it is not UTF-8", hint) from None
    at = path.start + 1
    return [(at, at, json_text.spell(directory + b"/"))]


def _refuse_unless_ours(path: str, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise UserError(f"{path} is somebody else's, or others may write there", "remove it")


def _share(descriptor: int, like: str, most: int) -> None:
    """Let the group and others do with DESCRIPTOR what they may do with LIKE, and MOST allows."""
    status = os.stat(like)
    mode = status.st_mode & most
    try:
        os.fchown(descriptor, -1, status.st_gid)
    except OSError:  # no group of ours: its members would be among the others
        mode = mode & 0o700 | mode & mode >> 3 & 0o007
    try:
        acl = os.getxattr(like, _ACL)
    except OSError:
        with suppress(OSError):
            os.removexattr(descriptor, _ACL)  # by the default of the directory
    else:
        os.setxattr(descriptor, _ACL, acl)
    os.fchmod(descriptor, mode)  # whatever this process' umask


def _put(directory: int, text: bytes, like: str) -> None:
    """Put TEXT into DIRECTORY as its config.json; as a whole, others may be reading it."""
    name = f"{CONFIG}.{os.urandom(6).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        with open(descriptor, "wb") as file:
            _share(descriptor, like, 0o777)
            file.write(text)
        os.rename(name, CONFIG, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        os.unlink(name, dir_fd=directory)
        raise


def _link(bundle: str, directory: int) -> None:
    for name in os.listdir(bundle):
        if name in (NAME, CONFIG):
            continue
        try:
            os.symlink(f"../{name}", name, dir_fd=directory)
        except FileExistsError:
            continue
