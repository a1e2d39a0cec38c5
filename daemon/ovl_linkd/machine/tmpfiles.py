"""The rules of systemd-tmpfiles on this machine: tmpfiles.d(5), file by file and line by line."""

import os
import re
from typing import NamedTuple

from ovl_linkd.machine import words

#: Highest precedence first: of files with one name only the first counts.
DIRECTORIES = (
    "/etc/tmpfiles.d",
    "/run/tmpfiles.d",
    "/usr/local/lib/tmpfiles.d",
    "/usr/lib/tmpfiles.d",
)

# Those that don't depend on the machine; a path with another specifier is not ours to know.
_SPECIFIERS = {
    "%": "%",
    "t": "/run",
    "T": "/tmp",
    "V": "/var/tmp",
    "S": "/var/lib",
    "C": "/var/cache",
    "L": "/var/log",
    "h": "/root",
}
_ESCAPES = {"n": "\n", "t": "\t", "s": " ", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[0-7]{3}|.)")


class Rule(NamedTuple):
    """One line. ``type``: its letter; ``modifiers``: what follows it, ``!`` for boot only.

    ``age``: as written, without what stands before it; None where none is set. ``keeps_first``:
    what lies directly in the directory is left alone (``~``).
    """

    file: str
    line: int
    type: str
    modifiers: str
    path: str
    age: str | None
    keeps_first: bool


def rules(root: str = "") -> list[Rule]:
    """Every rule that counts below ROOT, in the order in which systemd-tmpfiles reads them."""
    found = []
    for file in _files(root):
        try:
            with open(file, encoding="utf-8", errors="surrogateescape") as stream:
                lines = stream.read().splitlines()
        except OSError:
            continue
        shown = file.removeprefix(root)
        for number, line in enumerate(lines, 1):
            rule = _rule(shown, number, line)
            if rule is not None:
                found.append(rule)
    return found


def _files(root: str) -> list[str]:
    """By file name, each from the highest directory that has it; masked ones are left out."""
    highest: dict[str, str] = {}
    for directory in DIRECTORIES:
        try:
            names = os.listdir(root + directory)
        except OSError:
            continue
        for name in names:
            if name.endswith(".conf"):
                highest.setdefault(name, f"{root}{directory}/{name}")
    return [highest[name] for name in sorted(highest) if os.path.isfile(highest[name])]


def _rule(file: str, number: int, line: str) -> Rule | None:
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    fields = [_ESCAPE.sub(_unescape, word) for word in words.split(line)]
    if len(fields) < 2 or not fields[0]:
        return None
    path = _expand(fields[1])
    if path is None or not path.startswith("/"):
        return None
    age = fields[5] if len(fields) > 5 and fields[5] not in ("-", "") else None
    keeps_first = age is not None and age.startswith("~")
    if age is not None:
        age = age.removeprefix("~").rpartition(":")[2]
    return Rule(file, number, fields[0][0], fields[0][1:], _normal(path), age, keeps_first)


def _unescape(match: re.Match[str]) -> str:
    text = match[1]
    if text[0] == "x":
        return os.fsdecode(bytes([int(text[1:], 16)]))
    if text.isdigit() and len(text) == 3:
        return os.fsdecode(bytes([int(text, 8) & 0xFF]))
    return _ESCAPES.get(text, text)


def _expand(path: str) -> str | None:
    """PATH with its specifiers; None where one depends on the machine."""
    expanded = ""
    at = 0
    while (found := path.find("%", at)) >= 0:
        value = _SPECIFIERS.get(path[found + 1 : found + 2])
        if value is None:
            return None
        expanded += path[at:found] + value
        at = found + 2
    return expanded + path[at:]


def _normal(path: str) -> str:
    path = os.path.normpath(path)
    # As systemd-tmpfiles does, which leaves /var/run itself what it is: a symlink.
    return path.removeprefix("/var") if path.startswith("/var/run/") else path
