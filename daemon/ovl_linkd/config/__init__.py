"""Files -> one frozen Config, or every error with file, line and column.

`config/config.schema.json` is the declaration: keys, types, ranges and defaults come from it.
YAML and jsonschema are imported by `load()` only, so that commands which find what they need in
the daemon's published state don't pay for them. Paths are str with surrogateescape.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from ovl_linkd import config_files
from ovl_linkd.config.node import Node, Place, Problem, escaped
from ovl_linkd.links.ledger import path_of
from ovl_linkd.links.link import Link
from ovl_linkd.links.walk import walk

if TYPE_CHECKING:
    from ovl_linkd.config.node import Key


__all__ = ["Config", "ConfigError", "Farm", "Link", "Problem", "control_socket", "load"]

SCHEMA = os.path.join(os.path.dirname(config_files.PACKAGED), "config.schema.json")

#: where the counters go unless the standard configuration says otherwise. Not the schema's default:
#: daemons of `--config FILE` run side by side, and would write over each other's
METRICS_FILE = "/run/ovl-linkd/metrics.prom"


class Farm(NamedTuple):
    """The directory of short links for single layers; `keep` in seconds, `guard` none or
    append-only."""

    path: str
    keep: float
    max_entries: int
    guard: str


class Config(NamedTuple):
    """What is wanted. `links` in the order of the configuration, `resync_interval` in seconds,
    `files` as read, lowest precedence first."""

    links: tuple[Link, ...]
    farm: Farm | None
    resync_interval: float
    control_socket: str
    metrics_file: str | None
    files: tuple[str, ...]

    @property
    def others(self) -> list[str]:
        """What the daemon makes beside links: its files, and the farm's directory and ledger."""
        farm = [self.farm.path, path_of(self.farm.path)] if self.farm else []
        return [path for path in (self.control_socket, self.metrics_file, *farm) if path]


class ConfigError(Exception):
    """A configuration that can't be used: `problems` holds everything that is wrong with it.

    `passing`: it may well be right, but the machine could not read it for the moment.
    """

    def __init__(self, problems: tuple[Problem, ...], passing: bool = False) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
        self.passing = passing


def load(
    file: str | None = None,
    roots: tuple[str, ...] = config_files.ROOTS,
    packaged: str = config_files.PACKAGED,
) -> Config:
    """The configuration of FILE alone, or of the standard places if it is None.

    Reads the files and looks at the owners and modes of directories; changes nothing. Raises
    ConfigError with all that is wrong, in the order of the files and lines.
    """
    schema = _schema()
    files, trees, problems = _read_all(file, roots, packaged)
    root, found = _checked(trees, schema)
    if problems or found:
        raise ConfigError(_in_order(problems + found, files))
    config = _config(root, schema["properties"], files)
    if file is None and not any("metrics-file" in tree.value for tree in trees):
        return config._replace(metrics_file=METRICS_FILE)
    return config


def control_socket(
    file: str | None = None,
    roots: tuple[str, ...] = config_files.ROOTS,
    packaged: str = config_files.PACKAGED,
) -> str:
    """The control socket alone, of a configuration that may be faulty otherwise.

    A daemon that was started before it became so still listens there. Raises ConfigError where
    the files can't be read, or where just this setting is wrong.
    """
    from ovl_linkd.config import paths

    files, trees, problems = _read_all(file, roots, packaged)
    root = Node({}, Place("", 0, 0))
    for tree in trees:
        root = _over(root, tree)
    name = "control-socket"
    faults = [problem for key, problem in paths.path_problems(root) if key == (name,)]
    node = root.value.get(name)
    if node is None or node.value is None:
        return str(_schema()["properties"][name]["default"])
    if faults or not isinstance(node.value, str):
        raise ConfigError(_in_order(problems + faults, files))
    return node.value


def _read_all(
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
        raise ConfigError(_in_order(problems, files), passing)
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
        subject = "the file" if seen is status else f"{kind} {escaped(name)}"
        problems.append(Problem(path, 0, 0, f"{subject} {what}", f"{hint} {escaped(name)}"))
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


def _in_order(problems: list[Problem], files: tuple[str, ...]) -> tuple[Problem, ...]:
    """PROBLEMS, each once, by file in the order of reading, then line and column."""
    number = {path: index for index, path in enumerate(files)}
    unique = dict.fromkeys(problems)
    return tuple(sorted(unique, key=lambda one: (number.get(one.file, 0), one.line, one.column)))


def _checked(trees: list[Node], schema: dict[str, Any]) -> tuple[Node, list[Problem]]:
    """One tree of all, later ones over earlier ones, and what is wrong with each and the whole."""
    from jsonschema import Draft202012Validator

    from ovl_linkd.config import guards, paths, rules

    # The schema refers to nothing outside itself, so nothing is ever fetched.
    validator = Draft202012Validator(schema)
    root = Node({}, Place("", 0, 0))
    found: list[tuple[Key, Problem]] = []
    for tree in trees:
        alone = [*paths.path_problems(tree), *rules.text_problems(tree)]
        errors = validator.iter_errors(_plain(tree))
        found += alone
        found += rules.schema_problems(tree, errors, {key for key, _ in alone})
        root = _over(root, tree)
    root = _without_nulls(root)
    spoken = {key for key, _ in found}
    found += rules.missing_problems(root, schema["properties"])
    found += paths.place_problems(root, spoken)
    found += paths.parent_problems(root, spoken)
    found += guards.problems(root, spoken)
    return root, [problem for _, problem in found]


def _over(low: Node, high: Node) -> Node:
    """HIGH's values over LOW's; mappings key by key.

    What is no mapping where one belongs changes nothing: it was found wrong by itself, and what
    it would cover is right.
    """
    if not isinstance(low.value, dict) or high.value is None:
        return high
    if not isinstance(high.value, dict):
        return low
    entries = dict(low.value)
    for name, node in high.value.items():
        entries[name] = _over(entries[name], node) if name in entries else node
    return high._replace(value=entries, keys={**low.keys, **high.keys})


def _without_nulls(root: Node) -> Node:
    """ROOT less the settings, and the links, that are null."""

    def kept(node: Node) -> Node:
        inner = {name: one for name, one in node.value.items() if one.value is not None}
        return node._replace(value=inner)

    root = kept(root)
    links = root.value.get("links")
    if links is not None and isinstance(links.value, dict):
        root.value["links"] = kept(links)
    return root


def _schema() -> dict[str, Any]:
    import json

    with open(SCHEMA, encoding="utf-8") as stream:
        schema: dict[str, Any] = json.load(stream)
    return schema


def _plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {name: _plain(inner) for name, inner in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(inner) for inner in node.value]
    return node.value


def _with_defaults(given: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    defaults = {name: rule["default"] for name, rule in properties.items() if "default" in rule}
    return defaults | given


def _config(root: Node, properties: dict[str, Any], files: tuple[str, ...]) -> Config:
    """The frozen values of a tree that was found right."""
    plain = _with_defaults(_plain(root), properties)
    link_rules = properties["links"]["additionalProperties"]["properties"]
    links = []
    for name, given in plain["links"].items():
        link = _with_defaults(given, link_rules)
        unsafe = link["allow-unsafe-parent"]
        links.append(Link(name, link["path"], link["target"], unsafe, link["guard"]))
    farm = None
    if plain["farm"] is not None:
        whole = _with_defaults(plain["farm"], properties["farm"]["properties"])
        keep = _seconds(whole["keep"])
        farm = Farm(whole["path"], keep, whole["max-entries"], whole["guard"])
    return Config(
        tuple(links), farm, _seconds(plain["resync-interval"]),
        plain["control-socket"], plain["metrics-file"], files,
    )  # fmt: skip


def _seconds(span: str | int) -> float:
    from ovl_linkd.config.rules import seconds

    length = seconds(str(span))
    assert length is not None, span
    return length
