"""Which files make up the configuration, and whether they changed.

Imports nothing but `os` and `stat`: short-lived commands ask `stamp()` before anything else.
Places, masks and drop-ins follow UAPI.6, the Configuration Files Specification 1.0.
Paths are str with surrogateescape.
"""

import os
import stat

NAME = "config.yaml"

#: The directories that may hold NAME and NAME.d, highest precedence first.
ROOTS = ("/etc/ovl-linkd", "/run/ovl-linkd", "/usr/lib/ovl-linkd")

#: Those of them that outlive a boot, and where the sandboxed daemon can't write.
LASTING = tuple(root for root in ROOTS if not root.startswith("/run/"))

#: Shipped with the code: the default where no directory of ROOTS has a NAME.
PACKAGED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", NAME)

#: [path, mtime in ns, inode, size in bytes]; [path, None, None, None] for a missing one.
Stamp = list[str | int | None]


def sources(
    file: str | None = None, roots: tuple[str, ...] = ROOTS, packaged: str = PACKAGED
) -> tuple[str, ...]:
    """Every path whose change may change the configuration, present or not.

    FILE alone if given; else NAME and NAME.d of every root, each drop-in there (masked ones,
    too), and the packaged default. Never raises: what can't be listed counts as empty.
    """
    if file is not None:
        return (os.path.abspath(file),)
    paths = [os.path.join(root, NAME) for root in roots] + [packaged]
    for root in roots:
        directory = os.path.join(root, NAME + ".d")
        paths.append(directory)
        try:
            paths += [os.path.join(directory, name) for name in _drop_ins(directory)]
        except OSError:
            continue
    return tuple(paths)


def stamp(
    file: str | None = None, roots: tuple[str, ...] = ROOTS, packaged: str = PACKAGED
) -> list[Stamp]:
    """What identifies the present contents of `sources()`, made of lists, for JSON to keep.

    Take it *before* `config.load()`: a change during the load then shows as a difference.
    """
    found: list[Stamp] = []
    for path in sources(file, roots, packaged):
        try:
            status = os.stat(path)
        except OSError:
            found.append([path, None, None, None])
        else:
            found.append([path, status.st_mtime_ns, status.st_ino, status.st_size])
    return found


def chosen(
    file: str | None = None, roots: tuple[str, ...] = ROOTS, packaged: str = PACKAGED
) -> tuple[str, ...]:
    """The files to read, lowest precedence first: the main file, then drop-ins by file name.

    Masked files, and the masks, are left out. FILE is taken as it is, without drop-ins.
    Raises OSError where a directory can't be looked into: to fall back on a lower file then
    would silently be another configuration.
    """
    if file is not None:
        return (os.path.abspath(file),)
    main = next((path for root in roots if _exists(path := os.path.join(root, NAME))), packaged)
    highest: dict[str, str] = {}
    for root in roots:
        directory = os.path.join(root, NAME + ".d")
        for name in _drop_ins(directory):
            highest.setdefault(name, os.path.join(directory, name))
    paths = [main, *(highest[name] for name in sorted(highest, key=os.fsencode))]
    return tuple(path for path in paths if not _masks(path))


def _drop_ins(directory: str) -> list[str]:
    """File names of DIRECTORY that are drop-ins, in byte order; none where it is missing."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    wanted = (name for name in names if name.endswith(".yaml") and not name.startswith("."))
    return sorted(wanted, key=os.fsencode)


def _exists(path: str) -> bool:
    """Whether PATH is there, a dangling symlink included; unlike os.path.lexists it raises
    PermissionError rather than calling a file missing that may not be looked at."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _masks(path: str) -> bool:
    """Whether PATH is an empty file or leads to /dev/null: UAPI.6's two kinds of mask."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return False
    if stat.S_ISREG(status.st_mode):
        return status.st_size == 0
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)
