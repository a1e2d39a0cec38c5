"""Exit codes: 0 the configuration can be used, 1 it can't.

Nothing but files and directories is looked at: it works whether or not the daemon runs.
Warnings, about what lies on disk now, don't change the exit code.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from typing import TYPE_CHECKING

from ovl_linkd.config import ConfigError, load
from ovl_linkd.text import printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ovl_linkd.config import Config, Link, Problem


def arguments(parser: ArgumentParser) -> None:
    """Adds what `check` takes beside --config."""
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")


def run(args: Namespace) -> int:
    """Validates the configuration; the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path that the terminal's encoding lacks must not end in a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        config = load(args.config)
    except ConfigError as error:
        if args.json:
            _print_json(None, error.problems)
        else:
            _print_problems(error.problems)
        return 1
    if args.json:
        _print_json(config, ())
    else:
        _print_config(config)
    return 0


def _print_problems(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        print(problem, file=sys.stderr)
    files = len({problem.file for problem in problems})
    found, where = _count(len(problems), "problem"), _count(files, "file")
    print(f"ovl-linkd check: {found} in {where}", file=sys.stderr)


def _print_config(config: Config) -> None:
    for warning in _warnings(config):
        print(f"warning: {printable(warning)}", file=sys.stderr)
    for link in config.links:
        print(f"{link.name}: {printable(link.path)} -> {printable(link.target)}")
    if config.farm:
        print(f"farm: {printable(config.farm.path)}")
    links, files = _count(len(config.links), "link"), _count(len(config.files), "file")
    names = ", ".join(map(printable, config.files))
    print(f"ok: {links}, {files} read" + (f": {names}" if names else ""))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _print_json(config: Config | None, problems: tuple[Problem, ...]) -> None:
    import json

    document = {
        "schema_version": 1,
        "ok": config is not None,
        "files": list(config.files) if config else [],
        "links": [
            {"name": link.name, "path": link.path, "target": link.target}
            for link in (config.links if config else ())
        ],
        "farm": config.farm._asdict() if config and config.farm else None,
        "problems": [problem._asdict() for problem in problems],
        "warnings": _warnings(config) if config else [],
    }
    print(json.dumps(document))


def _warnings(config: Config) -> list[str]:
    """What on disk keeps a link from being of use now, though the configuration is right."""
    found = [one for link in config.links for one in (_target(link), _path(link)) if one]
    if config.farm and os.path.lexists(path := config.farm.path) and _mode(path) != stat.S_IFDIR:
        found.append(f"farm: {path} is taken by something that is no directory")
    return found if config.links else [*found, "no link is configured"]


def _mode(path: str) -> int:
    """What is at PATH itself, 0 where that can't be told."""
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)
    except OSError:
        return 0


def _target(link: Link) -> str | None:
    try:
        mode = os.stat(link.target).st_mode
    except OSError:
        return None  # missing, or not for this user to see: the link may well be kept before it
    if stat.S_ISDIR(mode):
        return None
    return f"link {link.name}: the target {link.target} is not a directory"


def _path(link: Link) -> str | None:
    try:
        mode = os.lstat(link.path).st_mode
    except OSError:
        return None
    if stat.S_ISLNK(mode):
        return None
    return f"link {link.name}: {link.path} is taken by something that is no symlink"
