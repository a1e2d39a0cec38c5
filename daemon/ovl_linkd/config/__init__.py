"""Files -> one frozen Config, or every error with file, line and column.

`config/config.schema.json` is the declaration: keys, types, ranges and defaults come from it.
YAML and jsonschema are imported by `load()` only, so that commands which find what they need in
the daemon's published state don't pay for them. Paths are str with surrogateescape.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ovl_linkd import config_files
from ovl_linkd.config.files import in_order, read_all
from ovl_linkd.config.node import ConfigError, Node, Place, Problem, check_of
from ovl_linkd.links.ledger import path_of
from ovl_linkd.links.link import Link

if TYPE_CHECKING:
    from ovl_linkd.config.node import Key


__all__ = ["Config", "ConfigError", "Farm", "Link", "Problem", "check_of", "control_socket", "load"]

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
    files, trees, problems = read_all(file, roots, packaged)
    root, found = _checked(trees, schema)
    if problems or found:
        raise ConfigError(in_order(problems + found, files))
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

    files, trees, problems = read_all(file, roots, packaged)
    root = Node({}, Place("", 0, 0))
    for tree in trees:
        root = _over(root, tree)
    name = "control-socket"
    faults = [problem for key, problem in paths.path_problems(root) if key == (name,)]
    node = root.value.get(name)
    if node is None or node.value is None:
        return str(_schema()["properties"][name]["default"])
    if faults or not isinstance(node.value, str):
        raise ConfigError(in_order(problems + faults, files))
    return node.value


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
