"""The files of a configuration: what each says, and who else might have written it."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from ovl_linkd import config_files
from ovl_linkd.config.node import ConfigError, Problem
from ovl_linkd.links.walk import walk
from ovl_linkd.text import printable

if TYPE_CHECKING:
    from ovl_linkd.config.node import Node


def read_all(
    file: str | None, roots: tuple[str, ...], packaged: str
) -> tuple[tuple[str, ...], list[Node], list[Problem]]:
    """The files that count, what each holds, and what is wrong with them as files and as YAML.

    Raises ConfigError if one can't be read: what the others lack may stand there, so that no more
    can be said of them.
    """
    from ovl_linkd.config.yaml_tree import UnreadableError, parse

    try:
        files = config_files.chosen(file, roots, packaged)
    except OSError as error:
        problem = _unreadable(error, str(error.filename))
        raise ConfigError((problem,), _passes(error)) from None
    trees: list[Node] = []
    problems: list[Problem] = []
    readable, passing = True, False
    for path in files:
        try:
            root, found = parse(_content(path, packaged, problems), path)
        except OSError as error:
            readable = False
            problems.append(_unreadable(error, path))
            passing |= _passes(error)
        except UnreadableError as error:
            readable = False
            problems.append(error.problem)
        else:
            problems += found
            trees += [root] if root is not None else []
    if not readable:
        raise ConfigError(in_order(problems, files), passing)
    return files, trees, problems


def _content(path: str, packaged: str, problems: list[Problem]) -> bytes:
    """The bytes of PATH; adds to PROBLEMS who else might have written them. Raises OSError."""
    from ovl_linkd.config.yaml_tree import MAX_BYTES

    # Without O_NONBLOCK a FIFO in the place of a file would hold the daemon up for good.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file", path)
        # Whoever may write the packaged default may write the code beside it.
        if path != packaged:
            problems += _distrusted(path, status)
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)


def _distrusted(path: str, status: os.stat_result) -> list[Problem]:
    """Why others than root and this user decide what PATH, with STATUS, says. Raises OSError."""
    problems = []
    for name, seen in [(path, status), *_way(path).items()]:
        link = stat.S_ISLNK(seen.st_mode)
        # In a sticky directory others can't take away or replace what isn't theirs.
        closed = link or (stat.S_ISDIR(seen.st_mode) and seen.st_mode & stat.S_ISVTX)
        # The owner of / may be the root outside a user namespace, as for links.walk.unsafe().
        if seen.st_uid not in (0, os.geteuid()) and name != "/":
            what, hint = f"belongs to user {seen.st_uid}", "chown -h root" if link else "chown root"
        elif seen.st_mode & stat.S_IWOTH and not closed:
            what, hint = "is writable by everybody", "chmod o-w"
        elif seen.st_mode & stat.S_IWGRP and seen.st_gid != 0 and not closed:
            what, hint = f"is writable by group {seen.st_gid}", "chmod g-w"
        else:
            continue
        kind = "the symlink" if link else "its directory"
        subject = "the file" if seen is status else f"{kind} {printable(name)}"
        problems.append(Problem(path, 0, 0, f"{subject} {what}", f"{hint} {printable(name)}"))
    return problems


def _way(path: str) -> dict[str, os.stat_result]:
    """Each directory and symlink by which PATH leads to a file, with its lstat. Raises OSError."""
    seen = {}

    def look(name: str) -> os.stat_result:
        seen[name] = os.lstat(name)
        return seen[name]

    for _ in walk(path, through=True, lstat=look):
        pass
    return {name: one for name, one in seen.items() if not stat.S_ISREG(one.st_mode)}


def _unreadable(error: OSError, path: str) -> Problem:
    if isinstance(error, FileNotFoundError):
        hint = "name a file that exists, or leave the option out"
        if os.path.islink(path):
            hint = "it is a symlink to nothing: mend or remove it"
    elif isinstance(error, PermissionError):
        hint = "run as root, or let this user read it"
    elif _passes(error):
        hint = "try again, and see what else the machine lacks"
    else:
        hint = "put a file of YAML text there"
    return Problem(path, 0, 0, error.strerror or str(error), hint)


def _passes(error: OSError) -> bool:
    """Whether ERROR says nothing of the file, but that the machine is out of something, or ill."""
    return error.errno in (
        *(errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR, errno.EIO),
        *(errno.ENOBUFS, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EDQUOT, errno.ENOSPC),
    )


def in_order(problems: list[Problem], files: tuple[str, ...]) -> tuple[Problem, ...]:
    """PROBLEMS, each once, by file in the order of reading, then line and column."""
    number = {path: index for index, path in enumerate(files)}
    unique = dict.fromkeys(problems)
    return tuple(sorted(unique, key=lambda one: (number.get(one.file, 0), one.line, one.column)))
