"""systemd's units as files: what they say, drop-ins included. systemd itself isn't asked.

Source: systemd.unit(5), systemd.syntax(7). A value keeps its quotes and specifiers.
"""

import os
import re
from itertools import product
from typing import NamedTuple

from ovl_linkd.machine import words

#: Highest precedence first.
DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)


class Setting(NamedTuple):
    """``KEY=VALUE`` in a section of a file."""

    section: str
    key: str
    value: str


class Unit(NamedTuple):
    """A unit: its name, the file that defines it, and every setting, lower files first."""

    name: str
    file: str
    settings: tuple[Setting, ...]

    def values(self, key: str) -> list[str]:
        """The values of KEY, in order; an empty one takes away those before it."""
        found: list[str] = []
        for setting in self.settings:
            if setting.key == key:
                found = [*found, setting.value] if setting.value else []
        return found

    def words(self, key: str) -> set[str]:
        """The words in all values of KEY; for dependencies, which nothing takes away."""
        return {
            word for one in self.settings if one.key == key for word in one.value.split() if word
        }

    def paths(self, key: str) -> list[str]:
        """The paths in the values of KEY, unquoted, without what may stand before each."""
        found = []
        for value in self.values(key):
            for word in words.split(value):
                path = re.sub(r"\\(.)", r"\1", word).lstrip("-+!")
                found.append(path.replace("%%", "%"))
        return found


def names(root: str = "") -> list[str]:
    """The names of all services and mounts below ROOT, sorted."""
    found: set[str] = set()
    for directory in DIRECTORIES:
        try:
            listed = os.listdir(root + directory)
        except OSError:
            continue
        found |= {name for name in listed if name.endswith((".service", ".mount"))}
    return sorted(found)


def load(name: str, root: str = "") -> Unit | None:
    """The unit NAME; None where there is none, it is masked or can't be read."""
    for directory in DIRECTORIES:
        file = f"{root}{directory}/{name}"
        if not os.path.lexists(file):
            continue
        own = _read(file) if os.path.isfile(file) else None
        if own is None:
            return None
        drop_ins = (_read(path) or [] for path in _drop_ins(name, root))
        settings = (*own, *(setting for each in drop_ins for setting in each))
        return Unit(name, file.removeprefix(root), settings)
    return None


def wants(unit: Unit, root: str = "") -> set[str]:
    """The units that UNIT pulls in, by its settings or by symlinks in its .wants directories."""
    found: set[str] = set()
    for key in ("Wants", "Requires", "BindsTo", "Requisite"):
        found |= unit.words(key)
    for directory in DIRECTORIES:
        for kind in ("wants", "requires"):
            try:
                found |= set(os.listdir(f"{root}{directory}/{unit.name}.{kind}"))
            except OSError:
                continue
    return found


def is_enabled(name: str, root: str = "") -> bool:
    """Whether some target or other unit pulls NAME in by a symlink."""
    for directory in DIRECTORIES:
        try:
            inside = os.listdir(root + directory)
        except OSError:
            continue
        for each in inside:
            if each.endswith((".wants", ".requires")):
                link = f"{root}{directory}/{each}/{name}"
                if os.path.lexists(link):
                    return True
    return False


def _drop_ins(name: str, root: str) -> list[str]:
    """The drop-ins for NAME, its beginnings and its type, by file name; of one only the highest.

    A type's is below any of a name's, wherever they lie (systemd.unit(5)).
    """
    stem, dot, kind = name.rpartition(".")
    beginnings = [stem[: dash.end()] for dash in re.finditer("-", stem)]
    owners = [name, *(beginning + dot + kind for beginning in reversed(beginnings))]
    highest: dict[str, str] = {}
    for place in (*product(DIRECTORIES, owners), *product(DIRECTORIES, [kind])):
        path = f"{root}{'/'.join(place)}.d"
        try:
            listed = os.listdir(path)
        except OSError:
            continue
        for each in listed:
            if each.endswith(".conf"):
                highest.setdefault(each, f"{path}/{each}")
    return [highest[each] for each in sorted(highest) if os.path.isfile(highest[each])]


def _read(file: str) -> list[Setting] | None:
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as stream:
            text = stream.read()
    except OSError:
        return None
    found = []
    section = ""
    for line in re.sub(r"\\\n(?:[ \t]*[#;].*\n)*", " ", text).split("\n"):
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif line and line[0] not in "#;" and "=" in line:
            key, _, value = line.partition("=")
            found.append(Setting(section, key.strip(), value.strip()))
    return found
